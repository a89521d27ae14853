"""What the processor has, as the compiler sees it, and as the environment holds it to less."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

import numba
from numba.core.registry import cpu_target

# Names by which a processor is asked for without its features (NUMBA_CPU_NAME).
_AVX2: Final = ("haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3")
_AVX512: Final = ("skylake-avx512", "icelake-server", "sapphirerapids", "znver4", "znver5")
_AMX: Final = ("sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d")

_triple, _name, _features = cpu_target.target_context.codegen().magic_tuple()
_has: Final = set(_features.split(","))
_config: Any = numba.config
_asked_for: Final = _config.CPU_NAME

X86: Final = _triple.startswith(("x86_64", "amd64"))
# Asked for by name, numba still reports the machine's own features.
WIDE: Final = X86 and (_name in _AVX512 or ("+avx512bw" in _has and _name not in _AVX2))
MIDDLE: Final = X86 and ({"+avx2", "+fma"} <= _has or _name in _AVX2)
ZEN: Final = _name.startswith("znver")

# Linux keeps tile registers for a process only after it asked for them, once.
_ARCH_PRCTL: Final = 158
_ASK_FOR: Final = 0x1023
_TILES: Final = 18


def _tiles_granted() -> bool:
    """Ask the system for tile registers, in all threads of this process."""
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError, TypeError):
        return False
    call.argtypes, call.restype = [ctypes.c_long] * 3, ctypes.c_long
    return bool(call(_ARCH_PRCTL, _ASK_FOR, _TILES) == 0)


def _has_tiles() -> bool:
    held = _asked_for is not None and _asked_for not in _AMX
    wanted = {"+amx-tile", "+amx-int8"}
    return WIDE and not held and wanted <= _has and sys.platform == "linux" and _tiles_granted()


# Whether there are tile registers that multiply bytes.
AMX: Final = _has_tiles()
