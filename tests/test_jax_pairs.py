"""A readout's (sum, count): two sums over steps, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jax_averages import CONFIG, MASK, OUTER, PARAMS, STEPS, X, losses, masked

from revrnn import RevRNNError
from revrnn.jax_impl import apply, value, value_and_grad

PAIRS: dict[str, Callable[..., Any]] = {
    "mean and number": lambda o, y, m: (losses(o, y).mean(), 1),
    "mean and steps": lambda o, y, m: (losses(o, y).mean(), len(y)),
    "two means": lambda o, y, m: ((losses(o, y) * m).mean(), m.mean()),
    "loss and share": lambda o, y, m: (losses(o, y).sum(), (y > 0).mean()),
    "sum and number": lambda o, y, m: (losses(o, y).sum(), jnp.float32(1)),
    "clamped": lambda o, y, m: (masked(o, y, m), jnp.maximum(m.sum(), 1)),
    "smoothed": lambda o, y, m: (masked(o, y, m), m.sum() + 2.5),
    "rows with any": lambda o, y, m: (masked(o, y, m), m.any(0).sum()),
    "one of none": lambda o, y, m: (masked(o, y, m), m.sum() + ~m.any()),
    "of weights": lambda o, y, m: (masked(o, y, m), jnp.square(o["w"]).sum()),
    "penalty": lambda o, y, m: (masked(o, y, m) + jnp.square(o["w"]).sum(), m.sum()),
    "more than rounding": lambda o, y, m: (masked(o, y, m), m.sum() + 1e-4),
    "root": lambda o, y, m: (jnp.sqrt(losses(o, y).sum()), m.sum()),
}
SUMS: dict[str, Callable[..., Any]] = {
    "mean times steps": lambda o, y, m: (losses(o, y).mean() * len(y), len(y)),
    "size": lambda o, y, m: (losses(o, y).sum(), float(y.size)),
    "kept above 0": lambda o, y, m: (masked(o, y, m), jnp.maximum(m.sum(), 1e-8) + 1e-8),
    "many elements": lambda o, y, m: (losses(o, y).sum(), len(y) * 4099),
    "part of the steps": lambda o, y, m: (losses(o, y).sum(), len(y) / 7.5),
    "narrow count": lambda o, y, m: (losses(o, y).sum(), jnp.asarray(y.size).astype("bfloat16")),
    "count of bytes": lambda o, y, m: (losses(o, y).sum(), jnp.asarray(y.size).astype("uint8")),
    "number of ones": lambda o, y, m: (losses(o, y).sum(), jnp.ones(m.shape).sum()),
    "square of a norm": lambda o, y, m: (jnp.linalg.norm(y) ** 2, y.size),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_are_no_sums_are_told(name: str) -> None:
    arguments = PARAMS, OUTER, X, MASK, CONFIG
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*(no sum over|depend on one)"):
        value(*arguments, readout=PAIRS[name], chunk_size=3)
    given: Any = {"readout": PAIRS[name], "reduction": "sum"}
    jax.eval_shape(lambda: value(*arguments, **given, chunk_size=STEPS))


@pytest.mark.parametrize("name", SUMS)
def test_pairs_of_sums_are_taken(name: str) -> None:
    arguments = PARAMS, OUTER, X, MASK, CONFIG
    jax.eval_shape(lambda: value(*arguments, readout=SUMS[name], chunk_size=3))


def over_rows(function: Callable[..., Any]) -> Any:
    """Return what a function gives for each row, where sums over rows have a name."""
    return jax.vmap(function, (1, 1), axis_name="rows")(X, MASK)


def test_sums_over_an_axis_by_name() -> None:
    """As devices' sums and counts are added up, before they are divided."""

    def readout(outer: Any, outputs: jax.Array, mask: jax.Array) -> jax.Array:
        sums = jax.lax.psum((masked(outer, outputs, mask), mask.sum()), "rows")
        scaled: jax.Array = 2 * sums[0] / sums[1]
        return scaled

    def streamed(x: jax.Array, mask: jax.Array) -> Any:
        given = PARAMS, OUTER, x[:, None], mask[:, None], CONFIG
        step = value_and_grad(*given, readout=readout, chunk_size=3)
        return step.loss, step.grads

    def whole(x: jax.Array, mask: jax.Array) -> Any:
        def loss(params: Any, outer: Any) -> jax.Array:
            return readout(outer, apply(params, x[:, None], CONFIG).outputs, mask[:, None])

        return jax.value_and_grad(loss, (0, 1))(PARAMS, OUTER)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6),
        over_rows(streamed),
        over_rows(whole),
    )


@pytest.mark.parametrize(
    "readout",
    [
        lambda o, y, m: jax.lax.psum(losses(o, y).mean() * m.sum() / m.sum(), "rows"),
        lambda o, y, m: jax.lax.pmean(masked(o, y, m) / m.sum(), "rows"),
        lambda o, y, m: jax.lax.pmax(losses(o, y).mean(), "rows"),
        lambda o, y, m: jax.lax.pmean(losses(o, y - jnp.roll(y, 1, 0)).mean(), "rows"),
        lambda o, y, m: jnp.abs(jax.lax.all_gather(y - jnp.roll(y, 1, 0), "rows")).mean(),
        lambda o, y, m: jax.lax.cond(  # in a branch sums over an axis are not tried
            o["w"][0] > 0, lambda v: jax.lax.psum(v, "rows"), lambda v: v, losses(o, y).mean()
        ),
    ],
)
def test_what_is_no_sum_over_an_axis_by_name_is_told(readout: Callable[..., Any]) -> None:
    def streamed(x: jax.Array, mask: jax.Array) -> Any:
        given = PARAMS, OUTER, x[:, None], mask[:, None], CONFIG
        return value(*given, readout=readout, chunk_size=3).loss

    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout: got a (scalar that|loss of)"):
        over_rows(streamed)
