"""The native engine: a chunk of steps in one compiled call on the processor, by XLA's FFI.

Read in this order: :mod:`.calls`, :mod:`.weights`, :mod:`.threads`, :mod:`.rows`, :mod:`.stack`,
:mod:`.gradient`, :mod:`.readout`, :mod:`.engine`. Only the last is imported without numba; the
kernels are :mod:`revrnn.native`, which PyTorch's engine calls too.
"""
