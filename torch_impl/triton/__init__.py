"""Kernels in Triton and the engine that runs them; imported only where they are used."""
