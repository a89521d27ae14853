"""Training and evaluation by chunks: nothing of size steps × batch × hidden ever exists.

Inputs are made from the user's data chunk by chunk, forwards and again on the way back; in training
the readout and its loss run on the way back alone, on recovered outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from revrnn.config import Config
from revrnn.errors import check_one_of
from revrnn.plan import CHUNK_SIZE

from .asked import Asked
from .checks import Floats, Params, check_function, check_reset_capacity
from .meshes import Rows, spec_of, state_specs
from .run import Embed, Readout, prepare, undifferentiable
from .settings import settings_of
from .state import State
from .streaming_loss import Streamed, measure, train

Tree = Any


def value_and_grad(
    params: Params,
    outer: Tree,
    inputs: Tree,
    targets: Tree,
    config: Config,
    *,
    readout: Readout,
    embed: Embed | None = None,
    hx: Floats = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    reduction: str = "mean",
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
    reset_capacity: int | None = None,
) -> Streamed:
    """Return a loss over a sequence and its gradients.

    It is meant to be called inside ``jax.jit``. States do not depend on ``chunk_size`` or
    ``checkpoint_every``. Randomness of ``embed`` and ``readout`` must come from what they are
    given, for instance from keys and step numbers among the inputs; each is traced once for a
    length of cut, so that a key which it closes over is the same for every chunk.

    The loss may itself be differentiated, once, in reverse mode, with respect to what has no
    gradient in the result: float inputs and targets, and what ``embed`` and ``readout`` close over.

    Args:
        params: float32 arrays by the names of ``config.parameter_shapes()``.
        outer: any pytree of parameters that ``embed`` and ``readout`` use.
        inputs: any pytree of arrays ``[T, …]``: tokens, features.
        targets: any pytree of arrays ``[T, …]``.
        config: the stack.
        readout: ``readout(outer, outputs, targets)``, from float32 ``[C, B, H]`` and a cut of the
            targets to a scalar, or to ``(sum, count)``: see ``reduction``. For large vocabularies
            :class:`~revrnn.jax_impl.LinearCrossEntropy` takes the least memory.
        embed: ``embed(outer, inputs)``, from a cut of the inputs to float32 ``[C, B, I]``; without
            it the inputs are that.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, float32 ``[L, B, H]``, of a
            decoder for instance. Its gradient is returned (GRAD-004).
        state: exact state from another call, instead; without either the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002).
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012).
        resets: bool ``[T, B]``, true where a row starts anew before the step (SEQ-013).
        reduction: how losses of chunks become that of the sequence. A ``readout`` that gives
            ``(sum, count)`` says how much its chunk weighs: ``"mean"`` is all sums by all counts,
            with gradients of both, NaN where nothing counts, as 0/0 is; ``"sum"`` all sums. A
            scalar is, with ``"mean"``, the mean over steps, the sum, or the mean over what counts
            that its program or a trial shows it to be (docs/limits.md); ``"sum"`` adds scalars.
        chunk_size: steps handled together. It bounds the logits that exist at a time.
        checkpoint_every: keep the exact state every so many steps (rounded up to whole chunks) and
            the buffer of one piece at a time.
        capacity: words (for ``wordlist`` planes) set aside, for a piece if there are several;
            without it as many as can ever be needed (BUF-035).
        reset_capacity: resets, of all rows together, to set aside for in the same way; under jit
            it must be given with ``resets``.

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_DTYPE``, ``E_SHAPE``, and ``E_UNSUPPORTED``
            where the result is differentiated by what its gradients are of, or those gradients
            are; outside jit also ``E_NONFINITE``, ``E_RANGE``, ``E_OVERFLOW``, ``E_REVERSAL``,
            which inside jit are told by ``status``.
    """
    settings = settings_of(
        config, chunk_size, checkpoint_every, capacity, reset_capacity, resets, mask
    )
    check_reset_capacity(settings, resets)
    asked = Asked(params, outer, inputs, targets, hx, state, mask, gains, resets)
    mean = _is_mean(readout, reduction)

    def trained(asked: Asked) -> Streamed:
        params, outer, hx = undifferentiable((asked.params, asked.outer, asked.hx))
        asked = asked._replace(params=params, outer=outer, hx=hx)
        return train(*prepare(settings, asked, embed, readout, mean=mean))

    out = asked.answered(config, trained, partial(_specs, config, True))
    if hx is not None:
        of_hx = _in_types(asked.several(), out.grad_hx)
        out = out._replace(grad_hx=jax.tree.unflatten(jax.tree.structure(hx), of_hx))
    of_params, of_outer = out.grads
    of_params = _in_types(params, of_params)
    return out._replace(grads=(_as_given(params, of_params), of_outer))


def value(
    params: Params,
    outer: Tree,
    inputs: Tree,
    targets: Tree,
    config: Config,
    *,
    readout: Readout,
    embed: Embed | None = None,
    hx: Floats = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    reduction: str = "mean",
    chunk_size: int = CHUNK_SIZE,
) -> Streamed:
    """Return a loss as :func:`value_and_grad` does, without gradients, in constant memory.

    A readout may give whole numbers too, for instance how many predictions are right, and how many
    there are. Its derivative is refused.

    Raises:
        RevRNNError: as :func:`value_and_grad`.
    """
    settings = settings_of(config, chunk_size, resets=resets)
    asked = Asked(params, outer, inputs, targets, hx, state, mask, gains, resets)
    mean = _is_mean(readout, reduction)

    def measured(asked: Asked) -> Streamed:
        asked = Asked._make((*undifferentiable(asked[:5]), *asked[5:]))
        run, free, given = prepare(settings, asked, embed, readout, mean=mean, to_train=False)
        return measure(run, free._replace(values=undifferentiable(free.values)), given)

    return asked.answered(config, measured, partial(_specs, config, False))


def _is_mean(readout: object, reduction: str) -> bool:
    """Check what is no array; return whether the loss is a mean."""
    check_function("readout", readout, 3)
    check_one_of("reduction", reduction, ("mean", "sum"))
    return reduction == "mean"


def _in_types(values: Tree, grads: Tree) -> Any:
    """Return gradients in the types of what they are of."""
    if isinstance(grads, dict):
        values = {name: values[name] for name in grads}
    return jax.tree.map(lambda g, v: g.astype(jax.dtypes.result_type(v)), grads, values)


def _as_given(params: Params, grads: dict[str, jax.Array]) -> Any:
    """Return gradients by name in a mapping of the kind of ``params``, if JAX knows that."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [getattr(path[-1], "key", None) if path else None for path, _ in pairs]
    if type(params) is dict or set(names) != set(grads):
        return grads
    return jax.tree.unflatten(structure, [grads[str(name)] for name in names])


def _specs(config: Config, with_grads: bool, rows: Rows, asked: Asked) -> Any:
    """Return how results are sharded where the batch is sharded over ``rows``."""
    state: Any = state_specs(config, rows)
    whole: Any = P()
    grads: Any = None
    grad_hx: Any = None
    if with_grads:
        params = {name: asked.params[name] for name in config.parameter_shapes()}
        grads, grad_hx = jax.tree.map(spec_of, ((params, asked.outer), asked.several()))
    return Streamed(whole, grads, state, whole, whole, grad_hx, state.h, state.c)
