"""A second opinion: every exact operation in plain Python integers, one unit at a time.

Written from the text of the specification alone, it shares no code with the oracle, so that a
mistake in either is seen as a disagreement. Among the implementations it is called ``naive``.
"""

from .evaluate import IMPLEMENTATION

__all__ = ["IMPLEMENTATION"]
