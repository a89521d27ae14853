"""What cannot be taken is refused by its name, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import revrnn.jax_impl.equinox as in_equinox
import revrnn.jax_impl.flax as in_flax
from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    LinearCrossEntropy,
    State,
    apply,
    check,
    dropout_gains,
    encode,
    init,
    initial_state,
    quantise_parameters,
    step_dropout,
    value,
    value_and_grad,
)

CONFIG = Config("revgru", 3, 4, 2, max_forget_bits=3, slice_size=1)
PARAMS = init(jax.random.key(2), CONFIG)
KEY, NUMBERS = jax.random.key(0), jnp.arange(3)
X, Y, CLASSES = jnp.ones((3, 2, 3)), jnp.ones((3, 2, 4)), jnp.ones((3, 2), jnp.int32)
OUTER = {"scale": jnp.float32(1.5), "kernel": jnp.ones((4, 5))}
WORDS, THINGS = np.full((3, 2, 3), "word"), np.array([object()] * 3)
MERE = jax.ShapeDtypeStruct((3, 2, 3), jnp.float32)
HX = jnp.zeros((2, 2, 4))
MADE: Any = State
Tree = Any
Call = Callable[..., Any]


def readout(outer: Tree, outputs: jax.Array, targets: Tree) -> jax.Array:
    loss: jax.Array = ((outputs - targets) ** 2).mean() * outer["scale"]
    return loss


def of_apply(**changes: Any) -> Any:
    """Call :func:`apply` with other arguments than the right ones."""
    given: Any = {"params": PARAMS, "x": X, "config": CONFIG} | changes
    first = [given.pop(name) for name in ("params", "x", "config")]
    return apply(*first, **given)


def of_encode(**changes: Any) -> Any:
    """Call :func:`encode` in the same way."""
    given: Any = {"params": PARAMS, "outer": OUTER, "inputs": X, "config": CONFIG} | changes
    first = [given.pop(name) for name in ("params", "outer", "inputs", "config")]
    return encode(*first, **given)


def of_value(function: Call = value, **changes: Any) -> Any:
    """Call :func:`value`, or another of its kind, in the same way."""
    given: Any = {"params": PARAMS, "outer": OUTER, "inputs": X, "targets": Y, "config": CONFIG}
    given |= {"readout": readout} | changes
    first = [given.pop(name) for name in ("params", "outer", "inputs", "targets", "config")]
    return function(*first, **given)


def of_grad(**changes: Any) -> Any:
    """Call :func:`value_and_grad` in the same way."""
    return of_value(value_and_grad, **changes)


def of_classes(layer: Any = lambda outer: outer["kernel"], **settings: Any) -> Any:
    """Call :func:`value_and_grad` with a linear layer made of wrong arguments."""
    targets = settings.pop("targets", CLASSES)
    return of_grad(targets=targets, readout=LinearCrossEntropy(layer, **settings))


ALL = (of_apply, of_encode, of_value, of_grad)
LOSSES = (of_value, of_grad)
REF = jax.new_ref(X)
NO_ARRAYS = ("text", object(), WORDS, THINGS, MERE, REF, [[1.0]], [[1], [1, 2]], {"a": X}, KEY)
HOST, HOSTED = jax.memory.Space.Host, "got an array in the host's memory"

# Functions, their argument, wrong values for it, and what the error says.
TABLE: list[tuple[tuple[Call, ...], str, tuple[Any, ...], str]] = [
    (ALL, "params", (None, [1, 2], "text", tuple(PARAMS)), r"E_ARGUMENT\] params:"),
    (ALL, "params", ({}, PARAMS | {"more": X}, PARAMS | {1: X}), r"E_ARGUMENT\] params\["),
    (
        ALL,
        "params",
        tuple(PARAMS | {"bias_l0": v} for v in ("zero", None, object(), WORDS, 0, MERE, KEY)),
        r"E_DTYPE\] params\['bias_l0'\]:",
    ),
    (ALL, "params", (jax.device_put(PARAMS, HOST),), rf"E_ARGUMENT\] params\['.*'\]: {HOSTED}"),
    ((of_apply,), "x", (jax.device_put(X, HOST),), rf"E_ARGUMENT\] x: {HOSTED}"),
    ((of_encode, *LOSSES), "inputs", (jax.device_put(X, HOST),), rf"E_ARGUMENT\] inputs: {HOSTED}"),
    ((of_grad,), "outer", (jax.device_put(OUTER, HOST),), rf"E_ARGUMENT\] outer.*: {HOSTED}"),
    (ALL, "config", (None, {}, "revgru", Config), r"E_ARGUMENT\] config:"),
    ((of_apply,), "x", NO_ARRAYS, r"E_DTYPE\] x[:\[]"),
    ((of_apply,), "x", (None,), r"E_ARGUMENT\] x:"),
    ((of_encode, *LOSSES), "inputs", ("text", object(), WORDS, THINGS, MERE), r"E_DTYPE\] inputs:"),
    ((of_encode, *LOSSES), "inputs", (X[:0], np.float32(1), [[1], [2]]), r"E_SHAPE\] inputs"),
    (LOSSES, "inputs", (X > 0,), r"E_DTYPE\] inputs: got elements of bool; .*, or embed"),
    ((of_grad,), "embed", (lambda o, i: i > 0,), r"E_DTYPE\] embed: got elements of bool; "),
    (LOSSES, "targets", ("text", object(), WORDS, THINGS, MERE), r"E_DTYPE\] targets:"),
    (LOSSES, "targets", (Y[:2], 1.0, {"a": Y, "b": Y[:1]}), r"E_SHAPE\] targets"),
    (LOSSES, "targets", (np.full((3, 2), 2**40), {"a": np.full(3, -(2**31) - 1)}), r"E_RANGE\] t"),
    ((of_apply, *LOSSES), "hx", ("text", object(), WORDS, THINGS), r"E_DTYPE\] hx:"),
    ((of_apply, *LOSSES), "hx", (1.0, (HX, "text"), [HX], (HX, HX), ()), r"E_[A-Z]*\] hx"),
    (LOSSES, "targets", (2**31, {"a": CLASSES, "b": 10**5000}), r"E_RANGE\] targets"),
    (ALL, "state", ("text", object(), HX, (HX,), 3), r"E_ARGUMENT\] state:"),
    (ALL, "state", (MADE("text"), MADE(None, HX), MADE(HX, None, "a")), r"E_[A-Z]*\] state\."),
    (ALL, "state", (MADE(HX, None, None, "text"),), r"E_ARGUMENT\] state\.config:"),
    (ALL, "mask", (*NO_ARRAYS, X[..., 0], CLASSES), r"E_DTYPE\] mask[:\[]"),
    (ALL, "gains", (*NO_ARRAYS, jnp.ones((3, 1, 2, 4))), r"E_DTYPE\] gains[:\[]"),
    ((of_apply, *LOSSES), "resets", (*NO_ARRAYS, X[..., 0], CLASSES), r"E_DTYPE\] resets[:\[]"),
    ((of_apply,), "resets", (jax.new_ref(X[..., 0] > 0),), r"E_DTYPE\] resets:"),
    ((of_apply,), "with_outputs", (None, 1, "text", X), r"E_ARGUMENT\] with_outputs:"),
    (ALL[:2], "chunk_size", (0, -1, 2.0, "4", None, True, 2**40, X), r"E_ARGUMENT\] chunk_size:"),
    (LOSSES, "reduction", (None, 1, "max", X, np.ones(2)), r"E_ARGUMENT\] reduction:"),
    (LOSSES, "readout", (None, 1, X, "text"), r"E_ARGUMENT\] readout:"),
    (LOSSES[:1], "outer", ({"scale": "1.5"}, {"scale": object()}), r"E_DTYPE\] outer\['scale'\]:"),
    (
        LOSSES,
        "readout",
        (lambda *_: "text", lambda *_: object(), lambda o, h, t: (h.sum(), "text")),
        r"E_DTYPE\] readout:",
    ),
    (
        LOSSES,
        "readout",
        (lambda *_: None, lambda o, h, t: {"loss": h.sum()}),
        r"E_SHAPE\] readout:",
    ),
    ((of_encode, of_grad), "embed", (1, X, "text"), r"E_ARGUMENT\] embed:"),
    (
        (of_encode, of_grad),
        "embed",
        (lambda *_: None, lambda *_: "text", lambda o, i: (i,), lambda o, i: i > 0),
        r"E_[A-Z]*\] embed:",
    ),
    ((of_classes,), "layer", (None, 1, X), r"E_ARGUMENT\] layer:"),
    ((of_classes,), "layer", (lambda o: (), lambda o: (1, 2, 3)), r"E_ARGUMENT\] layer:"),
    ((of_classes,), "layer", (lambda o: None, lambda o: "text"), r"E_DTYPE\] kernel:"),
    ((of_classes,), "layer", (lambda o: X, lambda o: o["kernel"][:3]), r"E_SHAPE\] kernel:"),
    ((of_classes,), "layer", (lambda o: (o["kernel"], "text"),), r"E_DTYPE\] bias:"),
    (
        (of_classes,),
        "weight",
        ("text", [None] * 5, THINGS, np.ones(5, complex)),
        r"E_DTYPE\] weight:",
    ),
    ((of_classes,), "ignore_index", (None, 2.0, 2**31), r"E_ARGUMENT\] ignore_index:"),
    ((of_classes,), "weight", (np.ones(4), jnp.ones((5, 1))), r"E_SHAPE\] weight:"),
    ((of_classes,), "targets", (Y, jnp.ones((3, 2), bool), {"a": CLASSES}), r"E_DTYPE\] targets:"),
    ((of_classes,), "targets", (jnp.ones((3, 3), int), Y[..., None] > 0), r"E_[A-Z]*\] targets:"),
]
CASES = [
    pytest.param(function, name, wrong, said, id=f"{function.__name__}-{name}-{k}")
    for k, (functions, name, values, said) in enumerate(TABLE)
    for function in functions
    for wrong in [values]
]


@pytest.mark.parametrize(("function", "name", "values", "said"), CASES)
def test_what_cannot_be_taken_is_named(
    function: Call, name: str, values: tuple[Any, ...], said: str
) -> None:
    for wrong in values:
        with pytest.raises(RevRNNError, match=rf"^\[{said}"):
            function(**{name: wrong})


HELPERS: list[tuple[Call, tuple[Any, ...], int, tuple[Any, ...], str]] = [
    (init, (KEY, CONFIG), 0, (None, 3, "a", [1, 2], jax.random.split(KEY)), r"E_ARGUMENT\] key:"),
    (init, (KEY, CONFIG), 1, (None, {}, "revgru"), r"E_ARGUMENT\] config:"),
    (initial_state, (CONFIG, 2), 0, (None, {}, "revgru"), r"E_ARGUMENT\] config:"),
    (initial_state, (CONFIG, 2), 1, (None, 0, -1, 2.0, "a", True), r"E_ARGUMENT\] batch_size:"),
    (quantise_parameters, (PARAMS, CONFIG), 0, (None, [1], {}), r"E_ARGUMENT\] params"),
    (quantise_parameters, (PARAMS, CONFIG), 0, (jax.tree.map(jnp.int32, PARAMS),), r"E_DTYPE\] p"),
    (quantise_parameters, (PARAMS, CONFIG), 0, (PARAMS | {"bias_l0": X},), r"E_SHAPE\] params"),
    (quantise_parameters, (PARAMS, CONFIG), 1, (None, {}), r"E_ARGUMENT\] config:"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 0, (None, 3, "a"), r"E_ARGUMENT\] key:"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 1, (None, 2, -1, "a"), r"E_ARGUMENT\] rate:"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 2, (None, {}), r"E_ARGUMENT\] config:"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 3, (None, "a", X[:, 0, 0]), r"E_DTYPE\] steps"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 3, (3, CLASSES), r"E_SHAPE\] steps:"),
    (dropout_gains, (KEY, 0.5, CONFIG, NUMBERS, 2), 3, ([2**40],), r"E_RANGE\] steps:"),
    (
        dropout_gains,
        (KEY, 0.5, CONFIG, NUMBERS, 2),
        4,
        (None, 2.0, "a", 0, -1),
        r"E_[A-Z]*\] rows:",
    ),
    (step_dropout, (KEY, 0.5, X, NUMBERS), 0, (None, 3, "a"), r"E_ARGUMENT\] key:"),
    (step_dropout, (KEY, 0.5, X, NUMBERS), 1, (None, 2, -1, "a"), r"E_ARGUMENT\] rate:"),
    (step_dropout, (KEY, 0.5, X, NUMBERS), 2, (None, 1.0, WORDS, MERE, CLASSES), r"E_DTYPE\] x:"),
    (step_dropout, (KEY, 0.5, X, NUMBERS), 2, (X[:2], X[None]), r"E_SHAPE\] x:"),
    (step_dropout, (KEY, 0.5, X, NUMBERS), 3, (None, "a", [0.5, 1.0]), r"E_DTYPE\] steps:"),
    (check, (0,), 0, (None, "a", 0.5, X, KEY, [[1], 2]), r"E_ARGUMENT\] status:"),
    (State.cat, ([],), 0, (None, "text", 3, [], [1], X[0, 0, 0], [State(HX[0])]), r"E_A.*states:"),
    (State.from_dict, ({},), 0, ({"h": HX, "config": 3}, {"h": "a"}), r"E_[A-Z]*\] mapping\."),
    (
        initial_state(CONFIG, 2).index_select,
        ([0],),
        0,
        (None, "a", [None], [0.5], [7], [2**70], [[0]], []),
        r"E_[A-Z]*\] rows:",
    ),
]


@pytest.mark.parametrize(
    "case", HELPERS, ids=[f"{case[0].__name__}-{k}" for k, case in enumerate(HELPERS)]
)
def test_helpers_name_what_they_cannot_take(case: tuple[Any, ...]) -> None:
    function, arguments, place, values, said = case
    for wrong in values:
        with pytest.raises(RevRNNError, match=rf"^\[{said}"):
            function(*arguments[:place], wrong, *arguments[place + 1 :])


def test_a_readout_may_return_a_number_of_python() -> None:
    for number in (2.5, np.float32(2.5), np.float64(2.5)):
        out = of_grad(readout=lambda *_, number=number: number, chunk_size=2)
        assert out.loss == 2.5
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(out.grads))
    assert of_value(readout=lambda o, h, t: (3, h.shape[0]), chunk_size=2).loss == 2


def test_jax_names_the_function_that_it_cannot_trace() -> None:
    def branching(outer: Tree, outputs: jax.Array, targets: Tree) -> Any:
        return outputs.mean() if outputs.sum() > 0 else 0.0

    with pytest.raises(
        TypeError, match=r"function branching at .*\n*.* argument outputs"
    ) as raised:
        of_grad(readout=branching)
    assert isinstance(raised.value, jax.errors.TracerBoolConversionError)


def test_a_whole_result_is_no_status() -> None:
    for result in (of_apply(), of_value(), of_encode()):
        with pytest.raises(RevRNNError, match=r"^\[E_ARGUMENT\] status: got a"):
            check(result)


@pytest.mark.parametrize("rate", [0, 1, np.int64(1), np.float32(0.5)])
def test_rates_of_any_type_of_number(rate: Any) -> None:
    gains = dropout_gains(KEY, rate, CONFIG, NUMBERS, 2)
    np.testing.assert_array_equal(gains, dropout_gains(KEY, float(rate), CONFIG, NUMBERS, 2))
    dropped = step_dropout(KEY, rate, X, NUMBERS)
    np.testing.assert_array_equal(dropped, step_dropout(KEY, float(rate), X, NUMBERS))
    if rate in (0, 1):
        np.testing.assert_array_equal(dropped, X * (1 - rate))
    whole: Any = [0, 1, 2]
    np.testing.assert_array_equal(gains, dropout_gains(KEY, rate, CONFIG, whole, 2))


@pytest.mark.parametrize("value", [np.bool_(True), np.bool_(False)])
def test_truth_values_of_numpy_are_flags(value: Any) -> None:
    flags: Any = dict.fromkeys(("bias", "batch_first", "locked_dropout"), value)
    plain = {name: bool(v) for name, v in flags.items()}
    for kind, more in ((in_flax.RevGRU, {"rngs": nnx.Rngs(0)}), (in_equinox.RevGRU, {"key": KEY})):
        made: Any = kind
        module, other = made(3, 4, **flags, **more), made(3, 4, **plain, **more)
        for name, flag in plain.items():
            assert getattr(module, name) is getattr(other, name) is flag
        with pytest.raises(RevRNNError, match="bidirectional"):
            made(3, 4, bidirectional=np.bool_(True), **more)
    wanted = dropout_gains(KEY, 0.5, CONFIG, NUMBERS, 2, locked=bool(value))
    np.testing.assert_array_equal(dropout_gains(KEY, 0.5, CONFIG, NUMBERS, 2, locked=value), wanted)
    assert len(of_apply(with_outputs=value).outputs) == (3 if value else 0)


def test_whole_numbers_of_64_bits_are_targets() -> None:
    wanted = of_classes().loss
    for kind in (np.int64, np.uint64, np.uint8, np.int16, jnp.int4):
        assert of_classes(targets=np.ones((3, 2), kind)).loss == wanted


def test_outer_parameters_of_eight_bits() -> None:
    """Their gradients are added up in float32."""
    narrow = {"scale": jnp.asarray(1.5, jnp.float8_e5m2)}

    def loss(outer: Tree, outputs: jax.Array, targets: Tree) -> jax.Array:
        return readout({"scale": outer["scale"].astype(jnp.float32)}, outputs, targets)

    grad = of_grad(outer=narrow, readout=loss, chunk_size=2).grads[1]["scale"]
    wanted = of_grad(chunk_size=2).grads[1]["scale"]
    assert grad == wanted.astype(jnp.float8_e5m2)
