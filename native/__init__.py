"""Kernels of the native engines: a chunk of steps in one compiled call on the processor.

NumPy arrays go in and out; PyTorch's engine and JAX's call the same kernels. Read in this order:
:mod:`.compiling`, :mod:`.tiles`, :mod:`.packing`, :mod:`.lanes`, :mod:`.vectors`, :mod:`.products`,
:mod:`.arithmetic`, :mod:`.sums`, :mod:`.buffers`, :mod:`.gru`, :mod:`.lstm_rows` and :mod:`.lstm`,
:mod:`.rooms`, :mod:`.copies`, :mod:`.sweeps`, :mod:`.pullback`, :mod:`.parameter_gradients`,
:mod:`.readout`, :mod:`.plan`; for XLA :mod:`.frames`, :mod:`.threads`, :mod:`.tasks`,
:mod:`.own_rows`, :mod:`.chunk_shares`, :mod:`.gradient_shares` and :mod:`.handlers`. Records of
arrays are :mod:`.records`. All import numba.
"""
