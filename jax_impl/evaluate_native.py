"""JAX's native engine behind the evaluation interface (EVAL)."""

from .evaluate import JaxImplementation

IMPLEMENTATION = JaxImplementation(engine="native")
