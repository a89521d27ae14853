"""The engine that has XLA launch the kernels of :mod:`revrnn.gpu` on a GPU.

Read in this order: :mod:`.calls`, :mod:`.ir`, :mod:`.numbers`, :mod:`.launch`, :mod:`.weights`,
:mod:`.arrays`, :mod:`.stack`, :mod:`.gradient`, :mod:`.engine`; for tests :mod:`.interpreter`. Only
:mod:`.engine` is imported where the engine is not used.
"""
