"""What watches or changes PyTorch's functions while a user's are called."""

from __future__ import annotations

from typing import Any

import torch.overrides
from torch.overrides import TorchFunctionMode

_overrides: Any = torch.overrides


class Mode(TorchFunctionMode):
    """A mode that an interrupt leaves as any other error does.

    PyTorch takes a mode off its stack while a function is called for it. An interrupt before it is
    put back leaves it off: taking it off again would end an outer mode, or fail in another way.
    """

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Leave the mode, if it is there."""
        if error is None or _overrides._get_current_function_mode() is self:
            leave: Any = super().__exit__
            leave(kind, error, traceback)
