"""The Triton engine with one launch for many steps, by a name of its own; imports no Triton."""

from __future__ import annotations

from .engine import TritonEngine

ENGINE = TritonEngine("triton-persistent", persistent=True)
