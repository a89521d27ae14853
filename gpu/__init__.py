"""Kernels for GPUs in the language of Triton, and their order over a chunk; of no framework.

An engine launches them over the arrays of its framework (``torch_impl/triton``), in the order of
:mod:`.order`. Of these files :mod:`.sizes`, :mod:`.constants`, :mod:`.pointers` and :mod:`.support`
import no Triton.
"""
