"""The native engine: a chunk of steps in one compiled call on the processor.

Read in this order: :mod:`.compiling`, :mod:`.tiles`, :mod:`.packing`, :mod:`.lanes`,
:mod:`.vectors`, :mod:`.products`, :mod:`.arithmetic`, :mod:`.sums`, :mod:`.buffers`, :mod:`.gru`,
:mod:`.lstm_rows` and :mod:`.lstm`, :mod:`.copies`, :mod:`.sweeps`, :mod:`.pullback`,
:mod:`.parameters`, :mod:`.work`, :mod:`.engine`. Only the last is imported without numba.
"""
