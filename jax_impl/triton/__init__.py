"""The engine that has XLA launch the kernels of :mod:`revrnn.gpu` on a GPU.

Read in this order: :mod:`.calls`, :mod:`.ir`, :mod:`.launch`, :mod:`.weights`, :mod:`.stack`,
:mod:`.gradient`, :mod:`.engine`. Only the last is imported where the engine is not used.
"""
