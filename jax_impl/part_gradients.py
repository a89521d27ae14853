"""Whether the gradient of what is made of a chunk is that of its parts put together.

It is wherever JAX differentiates. A ``jax.custom_vjp`` may do anything: clip a gradient by its norm
over the chunk, or that of the loss itself. So where a function has one, gradients of random numbers
are tried too, of several sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

from .closures import Hoisted, divide, is_float, unite
from .draws import CUTS, STEPS_DRAWN, Computed, Draw, cut_of, is_low, numbers_of
from .flat import has_line

Tree = Any
_SIZES: Final = (1e-6, 1.0, 1e6)


def has_own_gradient(function: Hoisted) -> bool:
    """Say whether a ``jax.custom_vjp`` is in a caller's function."""
    return any(has_line(program.jaxpr, _is_own) for program in function.programs.values())


def _is_own(line: Any) -> bool:
    return bool(line.primitive.name.startswith("custom_vjp_call"))


def check_gradients(
    name: str, function: Callable[..., Tree], like: tuple[Tree, ...], *, mean: bool = False
) -> None:
    """Raise ``E_ARGUMENT`` if gradients of parts are not those of the whole.

    Args:
        name: the caller's argument.
        function: of outer parameters and of what has steps.
        like: arguments like those of a chunk, of which only types and shapes matter.
        mean: whether results without steps are means over them.
    """
    outer = numbers_of(like[0], None, 0, Draw())
    given = [numbers_of(tree, STEPS_DRAWN, k, Draw()) for k, tree in enumerate(like[1:], 1)]

    def floats(*arguments: Tree) -> list[jax.Array]:
        return [jnp.asarray(v) for v in jax.tree.leaves(function(*arguments)) if is_float(v)]

    def pulled(of_results: list[jax.Array], *arguments: Tree) -> Tree:
        own, others = divide(arguments, list(map(is_float, jax.tree.leaves(arguments))))
        return jax.vjp(lambda own: floats(*unite(own, others)), own)[1](of_results)

    try:
        results = jax.eval_shape(floats, outer, *given)
    except Exception:  # it takes no other number of steps
        return
    shared, call = sum(map(is_float, jax.tree.leaves(outer))), Computed(pulled)
    random = numbers_of(results, None, 7, Draw())
    near = 0.05 if is_low((outer, given, random)) else 1e-3
    for size in _SIZES:
        scaled = [v * v.dtype.type(size) for v in random]
        whole, *parts = (
            call([_cut(v, cut, mean) for v in scaled], outer, *cut_of(given, cut))
            for cut in (slice(0, STEPS_DRAWN), *CUTS)
        )
        if whole is None:
            return
        for place, one in enumerate(whole):
            pieces = [part[place] for part in parts]
            joined = sum(pieces) if place < shared else np.concatenate(pieces)
            most = near * max(np.abs(piece).max(initial=0) for piece in (one, *pieces))
            if np.isfinite(most) and not (np.abs(joined - one) <= most).all():
                given_by = "a function whose gradient, by jax.custom_vjp, is not that of its steps"
                allowed = "a gradient of each step alone; or a chunk_size of all steps"
                raise RevRNNError("E_ARGUMENT", name, given_by, allowed)


def _cut(gradient: Any, cut: slice, mean: bool) -> Any:
    """Return a part's gradient of its result, from that of the whole."""
    if gradient.ndim:
        return gradient[cut]
    share = (cut.stop - cut.start) / STEPS_DRAWN if mean else 1
    return gradient * gradient.dtype.type(share)
