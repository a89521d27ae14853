"""The native engine's compiled code, damaged or without room to be kept."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core.errors import TypingError
from numba.extending import overload

from revrnn.native import compiling

FUNCTION = """
from revrnn.native.compiling import native

@native
def f(x):
    return x + {number}
"""


def test_damaged_and_lacking_room_for_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled anew where what is kept cannot be read, or nothing can be kept."""
    monkeypatch.setattr("numba.config.CACHE_DIR", "")  # kept beside the source, whoever runs this

    def run(number: int = 1, name: str = "made") -> int:
        path = tmp_path / f"{name}.py"
        text = FUNCTION.format(number=number)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        space: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        return int(space["f"](1))

    assert run() == 2
    kept = [*tmp_path.rglob("*.nbc"), *tmp_path.rglob("*.nbi")]
    assert len(kept) == 2
    for path in kept:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert run() == 2
        assert path.read_bytes() != content[: len(content) // 2]
    # The index is written, and the process killed before the code is: what was compiled from
    # older sources must not be taken for it.
    from numba.core.caching import IndexDataCacheFile

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_save_data", no_room)
        with pytest.warns(RuntimeWarning, match=r": No space left on .*NUMBA_CACHE_DIR"):
            assert run(number=22) == 23
    assert run(number=22) == 23


def test_code_for_several_types_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled for some does not make way for what is compiled for others."""
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    path, space = tmp_path / "made.py", dict[str, Any]()
    path.write_text(FUNCTION.format(number=1))
    exec(compile(path.read_text(), str(path), "exec"), space)
    assert [space["f"](1), space["f"](0.5)] == [2, 1.5]
    assert len([*tmp_path.rglob("*.nbc")]) == 2


@pytest.mark.parametrize(("own", "meanwhile"), [(700, 50_000), (90_000, 90_000), (0, 0)])
def test_garbage_is_looked_for_as_often_as_before(
    own: int, meanwhile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less often while something is compiled, whoever compiles and whether or not it fails."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    seen: list[tuple[int, int, int]] = []

    def noted(kind: object) -> None: ...

    @overload(noted)
    def _noted(kind: object) -> Callable[[object], None]:  # called once for each kind
        seen.append(gc.get_threshold())

        def nothing(kind: object) -> None:
            pass

        return nothing

    @compiling.native
    def from_python() -> None:
        noted(1)

    def from_c(address: int) -> int:
        noted(1.5)
        return address

    @compiling.native
    def not_compiled() -> Any:
        noted(True)
        return noted + 1  # type: ignore[operator]

    before = gc.get_threshold()
    gc.set_threshold(own, 9, 8)
    try:
        from_python()
        compiling.callback(from_c)
        with pytest.raises(TypingError):
            not_compiled()
        assert gc.get_threshold() == (own, 9, 8)
    finally:
        gc.set_threshold(*before)
    assert seen == [(meanwhile, 9, 8)] * 3


def test_no_place_for_compiled_code_is_told_once() -> None:
    def made(number: int) -> int:
        space: dict[str, Any] = {}
        exec(compile(FUNCTION.format(number=number), "<nowhere>", "exec"), space)
        return int(space["f"](1))

    compiling._say_that_nothing_is_kept.cache_clear()
    text = "neither its source's folder nor the user's cache can be written; NUMBA_CACHE_DIR names"
    with pytest.warns(RuntimeWarning, match=text) as told:
        results = [made(3), made(4)]
    assert results == [4, 5]
    assert [warning.filename for warning in told] == ["<nowhere>"]


def test_what_is_kept_closes_over_nothing_compiled() -> None:
    """Its key would be another in each process, which would compile it and keep it again."""

    @compiling.inner
    def part(x: int) -> int:
        return x

    def whole(x: int) -> int:
        return part(x)  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=r"whole closes over what is compiled: never found again"):
        compiling.native(whole)
