"""The native engine: a chunk of steps in one compiled call on the processor.

Read in this order: :mod:`.compiling`, :mod:`.tiles`, :mod:`.products`, :mod:`.arithmetic`,
:mod:`.buffers`, :mod:`.gru` and :mod:`.lstm`, :mod:`.sweeps`, :mod:`.pullback`, :mod:`.work`,
:mod:`.engine`. Only the last is imported without numba.
"""
