"""What JAX writes is what was given, whatever its layout; what is damaged is told with its path."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    flax,
    init,
    initial_state,
    load_parameters,
    load_state,
    save_parameters,
    save_state,
)
from revrnn.torch_impl import load_parameters as load_in_torch

CONFIG = Config("revlstm", 3, 4, max_forget_bits=3)
PARAMS = {name: np.asarray(value) for name, value in init(jax.random.key(0), CONFIG).items()}
LAYOUTS: dict[str, Any] = {
    "Fortran": np.asfortranarray,
    "transposed": lambda v: np.ascontiguousarray(v.T).T,
    "strided": lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
    "reversed": lambda v: np.ascontiguousarray(v[::-1])[::-1],
    "big-endian": lambda v: v.astype(">f4"),
    "binary64": lambda v: v.astype(np.float64),
    "jax": jnp.asarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_memory_is_written_right(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_parameters(path, {n: LAYOUTS[layout](v) for n, v in PARAMS.items()}, CONFIG)
    params, config = load_parameters(path)
    in_torch, _ = load_in_torch(path)
    assert config == CONFIG
    for name, value in PARAMS.items():
        np.testing.assert_array_equal(params[name], value)
        np.testing.assert_array_equal(in_torch[name].numpy().astype(np.float32), value)


def test_bfloat16_keeps_its_numbers(tmp_path: Path) -> None:
    rounded = {name: jnp.asarray(v, jnp.bfloat16) for name, v in PARAMS.items()}
    save_parameters(tmp_path / "p", rounded, CONFIG)
    params, _ = load_parameters(tmp_path / "p")
    for name, value in rounded.items():
        np.testing.assert_array_equal(params[name], value.astype(jnp.float32))


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "complex64", "nan", "too large"])
def test_what_is_no_weight_is_refused(kind: str, tmp_path: Path) -> None:
    """When it is written, and when another program has written it."""
    weight = PARAMS["weight_hh_l0"].copy()
    if kind == "nan":
        weight[1, 1] = np.nan
    elif kind == "too large":
        weight = np.full(weight.shape, 1e39)
    else:
        weight = np.ones(weight.shape, kind)
    params = PARAMS | {"weight_hh_l0": weight}
    with pytest.raises(RevRNNError, match="weight_hh_l0"):
        save_parameters(tmp_path / "p", params, CONFIG)
    assert not list(tmp_path.iterdir())
    metadata = {"revrnn_config": json.dumps(CONFIG.as_dict())}
    save_file(params, tmp_path / "other", metadata=metadata)
    with pytest.raises(RevRNNError, match=r"other.*weight_hh_l0"):
        load_parameters(tmp_path / "other")


@pytest.mark.parametrize("text", ["[]", "null", "3", "{", '{"cell": "gru"}', '{"cell": []}'])
def test_damaged_metadata_is_told_with_the_path(text: str, tmp_path: Path) -> None:
    save_file(PARAMS, tmp_path / "damaged", metadata={"revrnn_config": text})
    with pytest.raises(RevRNNError, match="damaged"):
        load_parameters(tmp_path / "damaged")


def test_files_that_are_not_there_or_cut(tmp_path: Path) -> None:
    for load in (load_parameters, load_state):
        with pytest.raises(RevRNNError, match="nowhere"):
            load(tmp_path / "nowhere")
    with pytest.raises(RevRNNError, match="nowhere"):
        save_parameters(tmp_path / "nowhere" / "p", PARAMS, CONFIG)
    whole = tmp_path / "whole"
    save_parameters(whole, PARAMS, CONFIG)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(RevRNNError, match="cut"):
        load_parameters(tmp_path / "cut")


@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
def test_a_state_is_written_and_read(buffer: str, tmp_path: Path) -> None:
    config = Config("revlstm", 3, 4, buffer=buffer)
    state = initial_state(config, 2)
    state = state._replace(h=state.h + jnp.arange(8).reshape(1, 2, 4))
    save_state(tmp_path / "s", state)
    again = load_state(tmp_path / "s")
    assert again.config == config
    jax.tree.map(np.testing.assert_array_equal, tuple(again), tuple(state))
    hidden: Any = np.ma.masked_array(np.asarray(state.h), True)
    gone: Any = jnp.zeros(1)
    gone.delete()
    wrong = (
        ({"h": hidden}, "h: got a masked"),
        ({"h": gone}, "h: .*deleted"),
        ({"config": 1}, "config"),
    )
    for change, named in wrong:
        with pytest.raises(RevRNNError, match=named):
            save_state(tmp_path / "t", state._replace(**change))
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dropout": 2.0}, "dropout"),
        ({"hidden_size": 5}, "hidden_size"),
        ({"bidirectional": True}, "bidirectional"),
        ({"batch_first": 1}, "batch_first"),
        ({"p_max": 100}, "p_max"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"rngs": 3}, "rngs"),
    ],
)
def test_modules_check_their_arguments(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {"input_size": 3, "hidden_size": 4, "rngs": nnx.Rngs(0)}
    with pytest.raises(RevRNNError, match=named):
        flax.RevLSTM(**(arguments | change))


def test_modules_are_written_read_copied() -> None:
    three: Any = np.int64(3)
    module = flax.RevLSTM(three, 4, rngs=nnx.Rngs(0), p_max=900)
    assert module.config == Config("revlstm", 3, 4, max_forget_bits=3, p_max=900)
    x = jnp.ones((3, 2, 3))
    wanted = module(x).outputs
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        np.testing.assert_array_equal(other(x).outputs, wanted)


def test_modules_from_files(tmp_path: Path) -> None:
    module = flax.RevLSTM(3, 4, bias=False, rngs=nnx.Rngs(1), max_forget_bits=2)
    module.save(tmp_path / "m")
    with pytest.warns(UserWarning, match="num_layers=1"):
        again = flax.RevLSTM.load(tmp_path / "m", bias=False, dropout=0.5)
    assert (again.config, again.dropout) == (module.config, 0.5)
    jax.tree.map(np.testing.assert_array_equal, again.params(), module.params())
    with pytest.raises(RevRNNError, match=r"hidden_size.*the file"):
        flax.RevLSTM.load(tmp_path / "m", hidden_size=8)
    with pytest.raises(RevRNNError, match="revlstm"):
        flax.RevGRU.load(tmp_path / "m")
