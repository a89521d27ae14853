"""Kernels of the native engines: a chunk of steps in one compiled call on the processor.

NumPy arrays go in and out; PyTorch's engine and JAX's call the same kernels. Read in this order:

- what code is made of: :mod:`.compiling`, :mod:`.processor`, :mod:`.lanes`, :mod:`.vectors`,
  :mod:`.records`;
- products: :mod:`.tiles`, :mod:`.packing`, :mod:`.products`; where there are registers for tiles
  :mod:`.amx`, :mod:`.byte_products`, :mod:`.float_products`, :mod:`.float_parts`,
  :mod:`.float_tiles`;
- a step: :mod:`.arithmetic`, :mod:`.sums`, :mod:`.buffers`, :mod:`.gru`, :mod:`.lstm_rows`,
  :mod:`.lstm`;
- a chunk: :mod:`.plan`, :mod:`.rooms`, :mod:`.copies`, :mod:`.sweeps`, :mod:`.pullback`,
  :mod:`.parameter_gradients`;
- shares of a call, side by side: :mod:`.frames`, :mod:`.frame_writer`, :mod:`.atomics`,
  :mod:`.threads`, :mod:`.tasks`, :mod:`.own_rows`, :mod:`.chunk_shares`, :mod:`.gradient_shares`;
- what XLA calls: :mod:`.handlers`, :mod:`.weights_handlers`;
- around the stack: :mod:`.conversions`, :mod:`.readout`, :mod:`.readout_tiles`,
  :mod:`.readout_handler`.

All but :mod:`.records` import numba.
"""
