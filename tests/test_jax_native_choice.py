"""JAX's native engine: when it is taken, and why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    apply,
    engine,
    engine_plan,
    init,
    lowered,
    self_check,
    set_engine,
    set_product_method,
)
from revrnn.jax_impl.engines import Method
from revrnn.jax_impl.native import calls
from revrnn.jax_impl.native import engine as native_engine
from revrnn.jax_impl.x64 import with_x64
from revrnn.native import compiling, products, tiles

CONFIG, WORDLIST = Config("revgru", 3, 4), Config("revgru", 3, 4, buffer="wordlist")
PARAMS, X = init(jax.random.key(0), CONFIG), jnp.ones((2, 1, 3))


def test_it_is_taken_where_it_can_be() -> None:
    for name in ("auto", "native"):
        with engine(name):
            plan = engine_plan(CONFIG)
            assert (plan.engine, plan.refused) == ("native", {})
            assert products.PRODUCT in str(plan)
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
    assert engine_plan(CONFIG).engine == "native"


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


@pytest.mark.parametrize("forgetting", [True, False], ids=["forgetting", "non-forgetting"])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_what_the_self_check_knows_is_the_scans(cell: str, forgetting: bool) -> None:
    """A digest and sums that are written down in it; computed anew where the law changes."""
    config = Config(cell, self_check._INPUTS, self_check._HIDDEN, forgetting=forgetting)
    made, gradients = with_x64(self_check.run)(config, Method("scan", "float64"))
    sums, sizes = self_check.weighted_sums(gradients)
    known, sums_known = self_check._DUE[cell, forgetting]
    assert self_check.digest(made) == known, self_check.digest(made)
    assert np.all(np.abs(sums - sums_known) <= 1e-6 * sizes), sums


def test_a_version_that_does_not_tell_what_it_lowers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowered, "stays_here", lambda _: True)
    self_check._fault.cache_clear()
    try:
        plan = engine_plan(CONFIG)
        assert (plan.engine, "lowered for" in plan.refused["native"]) == ("scan", True)
        monkeypatch.setattr(lowered, "stays_here", lambda _: False)
        self_check._fault.cache_clear()
        assert "lowered for" in engine_plan(CONFIG).refused["native"]
    finally:
        self_check._fault.cache_clear()


def calls_handlers(program: str) -> bool:
    """Say whether a program has compiled calls."""
    return "@revrnn_advance_" in program


def gradients(x: jax.Array, **more: Any) -> Any:
    """Return outputs, and gradients of a loss by parameters and inputs."""

    def loss(params: dict[str, jax.Array], x: jax.Array) -> Any:
        out = apply(params, x, CONFIG, **more)
        return (out.outputs**2).sum(), out.outputs

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(PARAMS, x)


@pytest.mark.rule("GEN-001")
@pytest.mark.parametrize("case", ["plain", "mapped", "resets"])
def test_what_is_exported_is_the_scans(case: str) -> None:
    """Without compiled calls, the same bits; what runs here has them, before and after."""
    resets = jnp.array([[False], [True]])
    more: Any = {"resets": resets, "reset_capacity": 2} if case == "resets" else {}
    function = partial(gradients, **more)
    once, x = jax.jit(jax.vmap(function) if case == "mapped" else function), X
    if case == "mapped":
        x = jnp.stack([X, 2 * X])
    assert calls_handlers(once.lower(x).as_text())
    made = once(x)
    kept = export.export(once, platforms=("cpu", "cuda"))(x)
    assert not calls_handlers(kept.mlir_module())
    assert not calls_handlers(once.trace(x).lower(lowering_platforms=("cuda",)).as_text())
    assert calls_handlers(once.trace(x).lower().as_text())
    (_, outputs), grads = kept.call(x)
    np.testing.assert_array_equal(outputs, made[0][1])
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(made[1]), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-5)


def test_by_name_it_is_not_exported() -> None:
    """An error that says what to do, which then works, though the function has been traced."""
    once = jax.jit(lambda x: apply(PARAMS, x, CONFIG).outputs)
    with engine("native"):
        once(X)
        for platforms in (None, ("cuda",)):
            with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*set_engine\('auto'\)"):
                export.export(once, platforms=platforms)(X)
        with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
            once.trace(X).lower(lowering_platforms=("cuda",))
    export.export(once)(X)


ANOTHER_PROCESS = """
import pickle, sys
import jax, jax.monitoring, jax.numpy as jnp, numpy as np
from jax.experimental import serialize_executable
from revrnn import Config
from revrnn.jax_impl import apply, engine_plan, init

hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("/cache_hits")))
config = Config("revgru", 3, 4)
assert engine_plan(config).engine == "native"
params, x = init(jax.random.key(0), config), jnp.ones((2, 1, 3))
hits.clear()
compiled = jax.jit(lambda x: apply(params, x, config).outputs).lower(x).compile()
outputs = np.asarray(compiled(x))
if sys.argv[2] == "second":
    assert any(hits)
    kept, due = pickle.load(open(sys.argv[1], "rb"))
    np.testing.assert_array_equal(outputs, due)
    loaded = serialize_executable.deserialize_and_load(*kept)
    np.testing.assert_array_equal(np.asarray(loaded(x)), due)
else:
    assert not any(hits)
    kept = serialize_executable.serialize(compiled), outputs
    pickle.dump(kept, open(sys.argv[1], "wb"))
"""


@pytest.mark.slow
def test_executables_that_outlive_a_process(tmp_path: Path) -> None:
    """From JAX's persistent cache, and serialised: handlers are found by their names."""
    more = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    for turn in ("first", "second"):
        command = [sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path / "kept"), turn]
        subprocess.run(command, check=True, env=os.environ | more)


def test_names_of_handlers_say_what_they_were_made_of() -> None:
    """Executables from other sources, or packed for other vectors, do not find them."""
    name = calls.target_of_chunk("advance", "revgru", True)
    assert name.endswith(f"_{products.KIND}_{tiles.PANEL}_{compiling.SOURCES[:16]}")


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
