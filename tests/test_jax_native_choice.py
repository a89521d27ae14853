"""JAX's native engine: when it is taken, why not, and what its handlers refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, engine, engine_plan, init, set_engine, set_product_method
from revrnn.jax_impl.native import calls, self_check
from revrnn.jax_impl.native import engine as native_engine
from revrnn.native import handlers

CONFIG, WORDLIST = Config("revgru", 3, 4), Config("revgru", 3, 4, buffer="wordlist")
PARAMS, X = init(jax.random.key(0), CONFIG), jnp.ones((2, 1, 3))


def test_it_is_taken_by_name() -> None:
    with engine("native"):
        plan = engine_plan(CONFIG)
        assert (plan.engine, plan.refused) == ("native", {})
        assert "int16" in str(plan)
    assert engine_plan(CONFIG).engine == "scan"
    assert "by name alone" in engine_plan(CONFIG).refused["native"]
    assert engine_plan(WORDLIST).engine == "scan"
    assert "wordlist" in engine_plan(WORDLIST).refused["native"]
    with engine("scan"):
        assert (engine_plan(CONFIG).engine, engine_plan(CONFIG).refused) == ("scan", {})


def test_a_named_engine_refuses_with_a_reason() -> None:
    params = init(jax.random.key(0), WORDLIST)
    with engine("native"):
        assert engine_plan(CONFIG).engine == "native"
        for call in (lambda: engine_plan(WORDLIST), lambda: apply(params, X, WORDLIST)):
            with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*wordlist"):
                call()
    for wrong in ("eager", None, 1):
        with pytest.raises(RevRNNError, match=r"E_ARGUMENT. name: "):
            set_engine(wrong)  # type: ignore[arg-type]
    assert engine_plan(CONFIG).engine == "scan"


@pytest.fixture
def product() -> Iterator[None]:
    """A product that was chosen."""
    set_product_method("float64")
    yield
    set_product_method("auto")


@pytest.mark.usefixtures("product")
def test_a_chosen_product_is_the_scans() -> None:
    plan = engine_plan(CONFIG)
    assert (plan.engine, plan.product) == ("scan", "float64")
    assert "product" in plan.refused["native"]
    with engine("native"):
        assert engine_plan(CONFIG).engine == "native"


def test_several_devices_share_a_batch_by_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert "several devices" in engine_plan(CONFIG).refused["native"]
    with engine("native"):
        assert engine_plan(CONFIG).engine == "native"


def test_another_version_of_the_interface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    header = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define XLA_FFI_API_MAJOR 1\n", encoding="utf-8")
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    native_engine._fault.cache_clear()
    try:
        assert "another interface" in engine_plan(CONFIG).refused["native"]
        header.unlink()
        native_engine._fault.cache_clear()
        assert "FileNotFoundError" in engine_plan(CONFIG).refused["native"]
    finally:
        native_engine._fault.cache_clear()


@pytest.mark.parametrize(
    ("way", "reason"), [("pull", "gradients are not the scan's"), ("advance", "states are not")]
)
def test_the_self_check_sees_a_wrong_engine(
    way: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number that is wrong, as by a frame that is read at a wrong place."""
    right = calls.call

    def wrong(kind: str, *arguments: Any) -> list[jax.Array]:
        results = right(kind, *arguments)
        at = 2 if kind == "pull" else 7
        return [v + (n == at and kind == way) for n, v in enumerate(results)]

    monkeypatch.setattr(
        f"revrnn.jax_impl.native.{'gradient' if way == 'pull' else 'stack'}.call", wrong
    )
    jax.clear_caches()
    self_check._fault.cache_clear()
    try:
        plan = engine_plan(CONFIG)
        assert (plan.engine, reason in plan.refused["native"]) == ("scan", True)
        with engine("native"), pytest.raises(RevRNNError, match=f"E_UNSUPPORTED.*{reason}"):
            engine_plan(CONFIG)
    finally:
        self_check._fault.cache_clear()
        jax.clear_caches()


def test_export_asks_for_the_scan() -> None:
    """An error that says what to do, which then works, though the function has been traced."""

    def outputs(x: jax.Array) -> jax.Array:
        return apply(PARAMS, x, CONFIG).outputs

    once = jax.jit(outputs)
    with engine("native"):
        wanted = once(X)
        for platforms in (None, ("cuda",)):
            with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*set_engine\('scan'\)"):
                export.export(once, platforms=platforms)(X)
        with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
            once.trace(X).lower(lowering_platforms=("cuda",))
    kept = export.export(once)(X)
    assert (kept.call(X) == wanted).all()


def empty(kinds: Any) -> list[np.ndarray[Any, Any]]:
    """Return arrays of the given types and numbers of axes, of one element each."""
    names = {6: np.uint8, 3: np.int16, 4: np.int32, 5: np.int64, 11: np.float32}
    return [np.zeros((1,) * axes, names[kind]) for kind, axes in kinds.tolist()]


def call(kind: str, given: list[Any], made: list[Any], pairs: Any) -> None:
    """Call a handler as :func:`revrnn.jax_impl.native.calls.call` does."""
    shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in made]
    name = calls.target(kind, "revgru", True)
    aliases = dict(pairs.tolist())
    with jax.enable_x64(True):
        jax.block_until_ready(jax.ffi.ffi_call(name, shapes, input_output_aliases=aliases)(*given))


FRAMES = {
    "advance": (*handlers._ADVANCED, handlers._CHANGED),
    "recover": (*handlers._RECOVERED, handlers._KEPT),
    "pull": (handlers._PULLED, handlers._GRADIENTS, handlers._ADDED),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("wrong", ["type", "axes", "result", "fewer", "more", "not in place"])
def test_a_frame_that_is_not_as_expected(kind: str, wrong: str) -> None:
    """An error that XLA raises, before anything is read."""
    given, made, pairs = FRAMES[kind]
    arguments, results = empty(given), empty(made)
    if kind == "pull":  # one layer
        arguments += empty(handlers._OF_LAYER)
        results += empty(handlers._OF_LAYER)
        pairs = np.concatenate([pairs, [(12 + n, 3 + n) for n in range(3)]])
    free = 3  # neither aliased in any call
    if wrong == "type":
        arguments[free] = arguments[free].view(np.uint8)
    elif wrong == "axes":
        arguments[free] = arguments[free][None]
    elif wrong == "result":
        results[-1 if kind != "pull" else 2] = np.zeros((1, 1, 1, 1, 1), np.float32)
    elif wrong == "fewer":
        arguments.pop(free)
        pairs = pairs - [1, 0]
    elif wrong == "more":
        arguments.append(arguments[0])
    else:
        pairs = pairs[1:]
    with pytest.raises(Exception, match="revrnn: a call frame is not as its kernels expect it"):
        call(kind, arguments, results, pairs)


def test_no_memory_for_a_chunk() -> None:
    """An error that XLA raises, not results that were never written."""
    given, made, pairs = FRAMES["advance"]
    arguments, results = empty(given), empty(made)
    arguments[9] = np.zeros((1 << 24, 1), np.uint8)
    arguments[12] = results[0] = np.zeros((1, 2, 1, 1 << 22), np.int32)  # words: 2^48 bytes
    with pytest.raises(Exception, match="revrnn: not enough memory for a chunk of steps"):
        call("advance", arguments, results, pairs)


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
from revrnn import Config, RevRNNError
from revrnn.jax_impl import engine, engine_plan
config = Config("revgru", 3, 4)
assert engine_plan(config).engine == "scan"
assert "numba" in engine_plan(config).refused["native"]
try:
    with engine("native"):
        engine_plan(config)
except RevRNNError as error:
    assert "E_UNSUPPORTED" in str(error) and "numba" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_without_numba_the_scan_goes_on() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], check=True)
    program = "import sys, revrnn.jax_impl; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
