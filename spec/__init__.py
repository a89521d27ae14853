"""revrnn: reversible recurrent networks, specified to the last bit.

The package holds the specification (``text``, ``data``, ``vectors``), what every implementation
shares (:class:`Config`, :class:`Formats`, :class:`RevRNNError`) and the evaluation interface. The
implementations are the sub-packages ``numpy_ref``, ``torch_impl`` and ``jax_impl``; the suite that
asks ports is ``conformance``.
"""

from .config import Config
from .errors import RevRNNError
from .formats import Formats
from .programs import check_program

__version__ = "0.1.0"

# Changes whenever a rule changes what some exact quantity is.
SPEC_VERSION = "0.2"

__all__ = ["SPEC_VERSION", "Config", "Formats", "RevRNNError", "__version__"]

check_program()
