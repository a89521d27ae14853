"""Functions with a gradient of their own, ``jax.custom_vjp``: that of all steps, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, init, value_and_grad

CONFIG = Config("revgru", 3, 4, forgetting=False)
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (7, 2, 3))
MASK = jnp.asarray(np.arange(7)[:, None] < [[4, 6]])
OUTER = {"w": jnp.linspace(0.5, 1.5, 4), "e": jnp.eye(3)}
Tree = Any


def with_gradient(change: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Return the identity whose gradient is changed."""
    made = jax.custom_vjp(lambda x: x)
    made.defvjp(lambda x: (x, None), lambda _, gradient: (change(gradient),))
    return made


clipped = with_gradient(lambda gradient: jnp.clip(gradient, -0.01, 0.01))
normed = with_gradient(lambda gradient: gradient / jnp.linalg.norm(gradient))
scaled = with_gradient(lambda gradient: -0.3 * gradient)


def losses(outer: Tree, outputs: jax.Array) -> jax.Array:
    made: jax.Array = jnp.square(outputs - 0.1) @ outer["w"]
    return made


def ratio(outer: Tree, outputs: jax.Array, mask: jax.Array) -> jax.Array:
    made: jax.Array = (losses(outer, outputs) * mask).sum() / mask.sum()
    return made


def embed(outer: Tree, x: jax.Array) -> jax.Array:
    made: jax.Array = x @ outer["e"]
    return made


Functions = tuple[Callable[..., Any], Callable[..., Any]]
TAKEN: dict[str, Functions] = {
    "clipped in a ratio": (embed, lambda o, y, m: ratio(o, clipped(y), m)),
    "clipped in an embed": (lambda o, x: clipped(embed(o, x)), ratio),
    "scaled loss": (embed, lambda o, y, m: scaled(losses(o, y).mean())),
}
REFUSED: dict[str, Functions] = {
    "clipped loss": (embed, lambda o, y, m: clipped(losses(o, y).mean())),
    "clipped parameter": (embed, lambda o, y, m: ratio(o | {"w": clipped(o["w"])}, y, m)),
    "normed": (embed, jax.jit(lambda o, y, m: losses(o, normed(y)).mean())),
    "normed in an embed": (lambda o, x: normed(embed(o, x)), ratio),
}


@pytest.mark.parametrize("name", TAKEN)
def test_chunks_give_the_gradients_of_all_steps(name: str) -> None:
    before, readout = TAKEN[name]

    def whole(params: Tree, outer: Tree) -> Any:
        return readout(outer, apply(params, before(outer, X), CONFIG).outputs, MASK)

    wanted = jax.value_and_grad(whole, (0, 1))(PARAMS, OUTER)
    given = PARAMS, OUTER, X, MASK, CONFIG
    step = value_and_grad(*given, embed=before, readout=readout, chunk_size=3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6),
        (step.loss, step.grads),
        wanted,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_gradients_that_depend_on_other_steps_are_told(name: str) -> None:
    before, readout = REFUSED[name]

    def trained(chunk_size: int) -> Any:
        functions: dict[str, Any] = {"embed": before, "readout": readout}
        given = PARAMS, OUTER, X, MASK, CONFIG
        return value_and_grad(*given, **functions, chunk_size=chunk_size)

    named = "embed" if "embed" in name else "readout"
    with pytest.raises(RevRNNError, match=rf"E_ARGUMENT.*{named}: got a function whose gradient"):
        jax.eval_shape(lambda: trained(3))
    assert jax.eval_shape(lambda: trained(7)).loss.shape == ()


@pytest.mark.parametrize("place", ["embed", "readout"])
def test_a_custom_vjp_that_closes_over_what_the_function_computes_is_told(place: str) -> None:
    def closing(_: Tree, x: jax.Array) -> jax.Array:
        factor = jnp.exp(jnp.float32(0.1))
        made = jax.custom_vjp(lambda x: factor * x)
        made.defvjp(lambda x: (factor * x, None), lambda _, gradient: (factor * gradient,))
        result: jax.Array = made(x)
        return result

    functions: dict[str, Functions] = {
        "embed": (lambda o, x: closing(o, embed(o, x)), ratio),
        "readout": (embed, lambda o, y, m: ratio(o, closing(o, y), m)),
    }
    before, readout = functions[place]
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED.*readout: got .*closed over by jax.cus"):
        value_and_grad(PARAMS, OUTER, X, MASK, CONFIG, embed=before, readout=readout, chunk_size=3)
