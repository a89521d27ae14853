"""What the native kernels take a processor for, by what numba and the system say of it."""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any

import numba
import pytest

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
ALL, TILES = "+avx2,+fma,+avx512bw", "+amx-tile,+amx-int8"


class _System:
    """The C library of a system; what it answers when it is asked for tile registers."""

    def __init__(self, answer: int | None) -> None:
        self.answer, self.asked = answer, list[tuple[int, ...]]()

    def __call__(self, name: None, use_errno: bool) -> Any:
        if self.answer is None:
            raise OSError

        def syscall(*numbers: int) -> Any:
            self.asked.append(numbers)
            return self.answer

        self.call = syscall
        return SimpleNamespace(syscall=syscall)


def seen(
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, str, str],
    asked_for: str | None = None,
    system: _System | None = None,
    platform: str = "linux",
) -> str:
    """Return which of its conditions hold where numba sees such a processor."""
    codegen = SimpleNamespace(magic_tuple=lambda: given)
    target = SimpleNamespace(target_context=SimpleNamespace(codegen=lambda: codegen))
    monkeypatch.setattr("numba.core.registry.cpu_target", target)
    monkeypatch.setattr(numba.config, "CPU_NAME", asked_for)
    monkeypatch.setattr(ctypes, "CDLL", system or _System(0))
    monkeypatch.setattr(sys, "platform", platform)
    spec = find_spec("revrnn.native.processor")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return " ".join(n for n in ("X86", "WIDE", "MIDDLE", "ZEN", "AMX") if getattr(module, n))


@pytest.mark.parametrize(
    ("given", "asked_for", "holds"),
    [
        ((X86, "generic", ""), None, "X86"),
        ((X86, "generic", "+avx2"), None, "X86"),
        ((X86, "generic", "+avx2,+fma"), None, "X86 MIDDLE"),
        ((X86, "generic", "+avx512bw"), None, "X86 WIDE"),
        ((X86, "generic", "+avx512f"), None, "X86"),
        ((X86, "alderlake", ""), None, "X86 MIDDLE"),
        ((X86, "znver3", "+avx2,+fma"), None, "X86 MIDDLE ZEN"),
        ((X86, "znver4", ALL), None, "X86 WIDE MIDDLE ZEN"),
        ((X86, "sapphirerapids", TILES), None, "X86 WIDE AMX"),
        ((X86, "graniterapids", f"{ALL},{TILES}"), None, "X86 WIDE MIDDLE AMX"),
        ((X86, "sapphirerapids", f"{ALL},+amx-tile"), None, "X86 WIDE MIDDLE"),
        # Held to less by name, the features are the machine's own.
        ((X86, "skylake-avx512", f"{ALL},{TILES}"), "skylake-avx512", "X86 WIDE MIDDLE"),
        ((X86, "sapphirerapids", f"{ALL},{TILES}"), "sapphirerapids", "X86 WIDE MIDDLE AMX"),
        ((X86, "haswell", f"{ALL},{TILES}"), "haswell", "X86 MIDDLE"),
        ((X86, "nehalem", TILES), None, "X86"),
        ((ARM, "apple-m1", "+neon"), None, ""),
        ((ARM, "generic", f"{ALL},{TILES}"), None, ""),
    ],
)
def test_processors(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, str, str], asked_for: str | None, holds: str
) -> None:
    assert seen(monkeypatch, given, asked_for) == holds


@pytest.mark.parametrize(
    ("answer", "platform", "granted"),
    [
        (0, "linux", True),
        (1, "linux", False),
        (-1, "linux", False),
        (None, "linux", False),
        (0, "darwin", False),
    ],
)
def test_tile_registers_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, answer: int | None, platform: str, granted: bool
) -> None:
    """Once, by Linux's arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); no other is asked."""
    system = _System(answer)
    given = (X86, "sapphirerapids", f"{ALL},{TILES}")
    holds = seen(monkeypatch, given, system=system, platform=platform)
    assert holds == "X86 WIDE MIDDLE" + " AMX" * granted
    if answer is not None and platform == "linux":
        assert system.asked == [(158, 0x1023, 18)]
        assert vars(system.call)["argtypes"] == [ctypes.c_long] * 3
        assert vars(system.call)["restype"] is ctypes.c_long
    else:
        assert not system.asked


def test_a_processor_without_tile_registers_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    system = _System(0)
    assert seen(monkeypatch, (X86, "znver4", ALL), system=system) == "X86 WIDE MIDDLE ZEN"
    assert not system.asked
