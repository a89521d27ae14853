"""PyTorch's native engine behind the evaluation interface (EVAL)."""

from .evaluate import TorchImplementation

IMPLEMENTATION = TorchImplementation(engine="native")
IMPLEMENTATION.layouts = ("stream", "wordlist")  # the second by the eager engine
