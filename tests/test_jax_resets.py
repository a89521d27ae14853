"""Rows that start anew within a call of ``apply`` or of the streaming functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jax_apply import CELLS, close, problem, same

from revrnn import Config, RevRNNError
from revrnn.evaluation import Implementation
from revrnn.jax_impl import State, apply, check, engine, quantise_parameters, value_and_grad
from revrnn.jax_impl.quantise import quantise


@pytest.mark.parametrize(
    ("cell", "several"),
    [
        ("gru", False),
        pytest.param("gru", True, marks=pytest.mark.slow),
        pytest.param("lstm", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.rule("SEQ-013", "GRAD-016", "SEQ-008")
def test_resets_are_segments(oracle: Implementation, cell: str, several: bool) -> None:
    """The oracle, run in segments, gives the same; reversed and stored gradients are equal."""
    config, steps, rows = CELLS[cell], 9, 4
    params, x = problem(config, steps, rows)
    generator = np.random.default_rng(1)
    resets = generator.random((steps, rows)) < 0.2
    resets[0, 1] = resets[5] = True
    mask = generator.random((steps, rows)) < 0.8
    state = apply(params, x, config).state  # not zero, heads not fresh
    exact = {name: np.asarray(v) for name, v in quantise_parameters(params, config).items()}
    given: dict[str, Any] = exact | {"config": config.as_dict(), "h": np.asarray(state.h)}
    given["heads"] = np.asarray(state.heads).astype(np.int64)
    if state.c is not None:
        given["c"] = np.asarray(state.c)
    outputs = []
    for t in range(steps):
        for name in {"h", "c"} & set(given):
            given[name] = np.where(resets[t][None, :, None], 0, given[name])
        given["x"] = np.asarray(quantise("operand", x[t : t + 1], config.formats))
        given["mask"] = mask[t : t + 1]
        segment = oracle.evaluate("sequence_forward", given)
        given |= {name: segment[name] for name in ("h", "c", "heads") if name in segment}
        outputs.append(segment["outputs"])

    def loss(params: Any, x: Any, resets: Any, **options: Any) -> Any:
        out = apply(
            params, x, config, state=state, mask=jnp.asarray(mask), resets=resets, **options
        )
        return (out.outputs**2).sum(), out

    results = []
    variants: list[dict[str, Any]] = [
        {"states": "stored"},
        {"checkpoint_every": 4, "reset_capacity": 10},
    ]
    if several:
        variants += [{"reset_capacity": 40}, {"chunk_size": 1, "reset_capacity": 11}]
    for variant in variants:
        options = {"chunk_size": 4} | variant
        program = jax.value_and_grad(
            lambda p, x, r, options=options: loss(p, x, r, **options), (0, 1), has_aux=True
        )
        (_, out), grads = jax.jit(program)(params, x, jnp.asarray(resets))
        check(out.status)
        assert np.array_equal(out.state.h, given["h"])
        assert np.array_equal(out.state.heads, given["heads"])
        assert np.array_equal(out.outputs, np.concatenate(outputs).astype(np.float32) / 2**23)
        results.append(grads)
    assert same(results[0], results[1])
    if several:
        assert same(results[0], results[2])
        assert close(results[3], results[0])
    # Outside jit they are counted; under jit they must be said, and too many are reported.
    eager = jax.grad(lambda p: loss(p, x, jnp.asarray(resets), chunk_size=4)[0])(params)
    assert same(eager, results[0][0])
    with pytest.raises(RevRNNError, match="reset_capacity"):
        jax.jit(jax.grad(lambda p, r: loss(p, x, r)[0]))(params, jnp.asarray(resets))
    with pytest.raises(RevRNNError, match=r"E_OVERFLOW.*reset_capacity"):
        jax.grad(lambda p: loss(p, x, jnp.asarray(resets), reset_capacity=3)[0])(params)


@pytest.mark.rule("GRAD-016")
def test_resets_cut_gradients() -> None:
    """A row's gradients are those of a segment of its own; before the reset there are none."""
    config = CELLS["lstm"]
    params, x = problem(config, 10, 2)
    resets = jnp.zeros((10, 2), jnp.bool_).at[6, 0].set(True)
    left = apply(params, x[:6], config).state
    assert left.c is not None
    begin = State(left.h.at[:, 0].set(0), left.c.at[:, 0].set(0), left.heads)

    def whole(params: Any, x: Any) -> Any:
        out = apply(params, x, config, resets=resets, reset_capacity=1, chunk_size=5)
        return (out.outputs[6:, 0] ** 2).sum()

    def segment(params: Any, x: Any) -> Any:
        return (apply(params, x, config, state=begin).outputs[:, 0] ** 2).sum()

    grads, grad_x = jax.jit(jax.grad(whole, (0, 1)))(params, x)
    assert close((grads, grad_x[6:]), jax.jit(jax.grad(segment, (0, 1)))(params, x[6:]))
    assert not grad_x[:6].any()


@pytest.mark.rule("SEQ-013", "SEQ-007", "GRAD-016")
def test_the_scan_recovers_what_it_would_store() -> None:
    """Gradients by reversal and from stored states have the same bits where rows start anew."""
    config = Config("revgru", 2, 4, max_forget_bits=3, slice_size=1)
    params, x = problem(config, 3, 2)
    resets = jnp.zeros((3, 2), jnp.bool_).at[1, 0].set(True)

    def loss(params: Any, x: Any, states: Any) -> Any:
        out = apply(params, x, config, resets=resets, reset_capacity=1, states=states)
        return (out.outputs**2).sum()

    def both(params: Any, x: Any) -> Any:
        return [jax.grad(loss, (0, 1))(params, x, states) for states in ("reversed", "stored")]

    with engine("scan"):
        recovered, stored = jax.jit(both)(params, x)
    assert same(recovered, stored)


@pytest.mark.rule("SEQ-013")
def test_streaming_with_resets_is_apply_with_resets() -> None:
    config = CELLS["gru"]
    params, x = problem(config, 9, 2)
    resets = jnp.zeros((9, 2), jnp.bool_).at[3, 0].set(True).at[7, 1].set(True)

    def readout(outer: Any, outputs: jax.Array, targets: Any) -> jax.Array:
        total: jax.Array = (outputs * targets).sum() * outer
        return total

    targets = jax.random.normal(jax.random.key(8), (9, 2, 6))
    outer = jnp.float32(2)

    def whole(params: Any, outer: Any) -> Any:
        out = apply(params, x, config, resets=resets, reset_capacity=2)
        return readout(outer, out.outputs, targets)

    loss, grads = jax.jit(jax.value_and_grad(whole, (0, 1)))(params, outer)
    for every in (None, 4):
        step = value_and_grad(
            params,
            outer,
            x,
            targets,
            config,
            readout=readout,
            resets=resets,
            chunk_size=2,
            reduction="sum",
            checkpoint_every=every,
        )
        assert np.isclose(step.loss, loss, rtol=1e-5)
        assert close(step.grads, grads)
