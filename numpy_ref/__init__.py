"""The oracle: every rule in NumPy integers, written to be read beside the specification."""

from .evaluate import IMPLEMENTATION

__all__ = ["IMPLEMENTATION"]
