"""Flax and Equinox modules under their libraries' transforms, copied, stored and loaded."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped]
import pytest
import torch
from flax import nnx

import revrnn.jax_impl.equinox as in_equinox
import revrnn.jax_impl.flax as in_flax
import revrnn.torch_impl as in_torch
from revrnn.jax_impl import load_state, save_state
from revrnn.torch_impl import load_state as load_state_in_torch
from revrnn.torch_impl import save_state as save_state_in_torch

X = jax.random.normal(jax.random.key(1), (2, 2, 3))
KEY = jax.random.key(0)
FLAX: Any = in_flax.RevGRU(3, 4, 2, dropout=0.4, rngs=nnx.Rngs(0))
FLAX.eval()
IN: Any = in_equinox
EQUINOX = eqx.nn.inference_mode(IN.RevGRU(3, 4, 2, dropout=0.4, key=KEY))
Call = Callable[..., Any]


def outputs(module: Any, x: jax.Array = X) -> jax.Array:
    """Call a module."""
    outputs: jax.Array = module(x).outputs
    return outputs


def by_step(module: Any) -> Any:
    """Call a Flax module step by step in ``nnx.scan``."""

    def step(state: Any, x: jax.Array, module: Any) -> Any:
        out = module(x[None], state=state)
        return out.state, out.outputs[0]

    axes: Any = {"in_axes": (nnx.Carry, 0, None), "out_axes": (nnx.Carry, 0)}
    return nnx.scan(step, **axes)(module.initial_state(2), X, module)[1]


def of_many(module: Any) -> Any:
    """Make three modules by ``nnx.vmap`` and call them; the first has the one's parameters."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs: Any) -> Any:
        return in_flax.RevGRU(3, 4, 2, rngs=rngs)

    many = make(nnx.Rngs(0))
    nnx.update(many, jax.tree.map(lambda a, b: b.at[0].set(a), nnx.state(module), nnx.state(many)))
    return nnx.vmap(outputs, in_axes=(0, None))(many, X)[0]


IN_FLAX: dict[str, Call] = {
    "jit": lambda m: nnx.jit(outputs)(m),
    "remat": lambda m: nnx.remat(outputs)(m, X),
    "cond": lambda m: nnx.cond(jnp.bool_(True), outputs, lambda m: outputs(m) * 0, m),
    "scan": by_step,
    "vmap": of_many,
    "clone": lambda m: outputs(nnx.clone(m)),
    "pickle": lambda m: outputs(pickle.loads(pickle.dumps(m))),
    "deepcopy": lambda m: outputs(copy.deepcopy(m)),
    "split": lambda m: outputs(nnx.merge(*nnx.split(m))),
}
IN_EQUINOX: dict[str, Call] = {
    "jit": lambda m: eqx.filter_jit(outputs)(m),
    "vmap": lambda m: eqx.filter_vmap(outputs, in_axes=(None, 1), out_axes=1)(m, X),
    "partition": lambda m: outputs(eqx.combine(*eqx.partition(m, eqx.is_inexact_array))),
    "tree_at": lambda m: outputs(eqx.tree_at(lambda m: m.params, m, m.params)),
    "inference": lambda m: m(X, key=KEY).outputs,
    "pickle": lambda m: outputs(pickle.loads(pickle.dumps(m))),
    "deepcopy": lambda m: outputs(copy.deepcopy(m)),
}


@pytest.mark.parametrize("name", IN_FLAX)
def test_flax_transforms(name: str) -> None:
    np.testing.assert_array_equal(IN_FLAX[name](FLAX), outputs(FLAX))


@pytest.mark.parametrize("name", IN_EQUINOX)
def test_equinox_transforms(name: str) -> None:
    np.testing.assert_array_equal(IN_EQUINOX[name](EQUINOX), outputs(EQUINOX))


def test_orbax(tmp_path: Path) -> None:
    """A module made by ``nnx.eval_shape`` is filled from a checkpoint, and so is a state."""
    state = FLAX(X).state
    with ocp.StandardCheckpointer() as keeper:
        keeper.save(tmp_path / "module", nnx.state(FLAX))
        keeper.save(tmp_path / "state", {"state": state})
        keeper.wait_until_finished()
        empty: Any = nnx.eval_shape(lambda: in_flax.RevGRU(3, 4, 2, dropout=0.4, rngs=nnx.Rngs(5)))
        empty.eval()
        structure, shapes = nnx.split(empty)
        filled = nnx.merge(structure, keeper.restore(tmp_path / "module", shapes))
        again = keeper.restore(tmp_path / "state", {"state": FLAX.initial_state(2)})
    np.testing.assert_array_equal(outputs(filled), outputs(FLAX))
    assert again["state"] == state


def test_leaves_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "module.eqx"
    eqx.tree_serialise_leaves(path, EQUINOX)
    shapes = eqx.filter_eval_shape(lambda: IN.RevGRU(3, 4, 2, dropout=0.4, key=KEY))
    np.testing.assert_array_equal(
        outputs(eqx.tree_deserialise_leaves(path, shapes)), outputs(EQUINOX)
    )


def test_files_between_frameworks(tmp_path: Path) -> None:
    """Parameters and states written by either framework are read by all modules."""
    one = in_torch.RevGRU(3, 4)
    in_torch.save_parameters(tmp_path / "torch", one)
    x = torch.tensor(np.asarray(X))
    wanted, end = one(x, one.initial_state(2))
    loaded: list[Any] = [in_flax.RevGRU.load(tmp_path / "torch")]
    loaded.append(in_equinox.RevGRU.load(tmp_path / "torch"))
    for number, module in enumerate(loaded):
        out = module(X, module.initial_state(2))
        np.testing.assert_array_equal(out.outputs, wanted.detach().numpy())
        module.save(tmp_path / f"jax{number}")
        params, config = in_torch.load_parameters(tmp_path / f"jax{number}")
        assert torch.equal(in_torch.rev_rnn(x, params, config).outputs, wanted)
        save_state(tmp_path / "state", out.state)
        assert load_state_in_torch(tmp_path / "state") == end
        save_state_in_torch(tmp_path / "state", end)
        assert load_state(tmp_path / "state") == out.state


@pytest.mark.parametrize("cell", ["RevGRU", "RevLSTM"])
def test_the_same_arguments_everywhere(cell: str) -> None:
    """Names, order and defaults are those of PyTorch, but for what belongs to a framework."""
    own = {"self", "key", "rngs", "device", "dtype", "proj_size", "args", "kwargs"}

    def arguments(module: Any) -> dict[str, Any]:
        given = inspect.signature(module.__init__).parameters.values()
        return {p.name: p.default for p in given if p.name not in own}

    wanted = arguments(getattr(in_torch, cell))
    for package in (in_flax, in_equinox):
        assert arguments(getattr(package, cell)).items() <= wanted.items()
        first = [n for n in arguments(getattr(package, cell)) if n in wanted]
        assert first == [n for n in wanted if n in first]
