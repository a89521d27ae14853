"""Modes in which a user's functions are called, where something ends them early."""

from __future__ import annotations

from typing import Any

import pytest
import torch.overrides

from revrnn.torch_impl.modes import Mode

overrides: Any = torch.overrides


def taken_off() -> None:
    overrides._pop_mode()
    raise KeyboardInterrupt


def test_an_interrupt_between_modes() -> None:
    """PyTorch had taken a mode off and not put it back: the interrupt is told, outer modes stay."""
    with Mode() as outer:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), Mode():
                taken_off()
            assert overrides._get_current_function_mode() is outer
        with pytest.raises(ValueError, match="an error"), Mode():
            raise ValueError("an error")
        assert overrides._get_current_function_mode() is outer
    assert overrides._get_current_function_mode() is None
