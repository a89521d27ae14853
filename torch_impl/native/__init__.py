"""The native engine: a chunk of steps in one compiled call on the processor.

Read in this order: :mod:`.weights`, :mod:`.rows`, :mod:`.memory`, :mod:`.schedule`,
:mod:`.threads`, :mod:`.gradient`, :mod:`.work`, :mod:`.conversions`, :mod:`.readout`,
:mod:`.engine`. Only the last is imported without numba; the kernels are :mod:`revrnn.native`, which
JAX's engine calls too.
"""
