"""Parameters in a file: written by one framework, read by the other, the same bits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from revrnn import Config, RevRNNError, jax_impl, torch_impl


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_both_frameworks_read_both_files(tmp_path: Path, cell: str) -> None:
    config = Config(cell, 3, 6, 2, max_forget_bits=3, buffer="wordlist")
    kind = torch_impl.RevGRU if cell == "revgru" else torch_impl.RevLSTM
    module = kind(3, 6, 2, max_forget_bits=3, buffer="wordlist")
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    wanted, _ = module(torch.from_numpy(x))
    torch_impl.save_parameters(tmp_path / "a", module.state_dict(), module.config)
    params, read = jax_impl.load_parameters(tmp_path / "a")
    assert read == config == module.config
    out = jax_impl.apply(params, jax.numpy.asarray(x), read)
    assert np.array_equal(out.outputs, wanted.detach().numpy())
    jax_impl.save_parameters(tmp_path / "b", params, read)
    tensors, read = torch_impl.load_parameters(tmp_path / "b")
    assert read == config
    module.load_state_dict(tensors)
    assert torch.equal(module(torch.from_numpy(x))[0], wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("package", [torch_impl, jax_impl])
def test_other_files_are_refused(tmp_path: Path, package: object) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "other")
    with pytest.raises(RevRNNError, match="path"):
        package.load_parameters(tmp_path / "other")  # type: ignore[attr-defined]
    config = Config("revgru", 1, 2)
    with pytest.raises(RevRNNError, match="params"):
        package.save_parameters(tmp_path / "new", {}, config)  # type: ignore[attr-defined]
    shapes = {n: torch.zeros(s) for n, s in config.parameter_shapes().items()}
    shapes["bias_l0"] = torch.zeros(1)
    with pytest.raises(RevRNNError, match="bias_l0"):
        package.save_parameters(tmp_path / "new", shapes, config)  # type: ignore[attr-defined]
    assert not (tmp_path / "new").exists()


MODULES: dict[str, dict[str, Any]] = {
    "no biases": {"bias": False},
    "both ways": {"bidirectional": True},
    "neither": {"bias": False, "bidirectional": True, "num_layers": 1},
    "half": {"dtype": torch.bfloat16},
}


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize("case", MODULES)
def test_every_module_is_saved(tmp_path: Path, case: str, as_mapping: bool) -> None:
    settings = {"num_layers": 2} | MODULES[case]
    module, other = (torch_impl.RevLSTM(3, 6, **settings) for _ in range(2))
    x = torch.randn(4, 2, 3)
    if as_mapping:
        torch_impl.save_parameters(tmp_path / "a", module.state_dict(), module.config)
    else:
        torch_impl.save_parameters(tmp_path / "a", module)
    params, config = torch_impl.load_parameters(tmp_path / "a", "cpu")
    assert config == module.config
    other.load_state_dict(params)
    assert torch.equal(other(x)[0], module(x)[0])
    if case == "no biases":
        read, config = jax_impl.load_parameters(tmp_path / "a")
        out = jax_impl.apply(read, jax.numpy.asarray(x.numpy()), config)
        assert np.array_equal(out.outputs, module(x)[0].detach().numpy())


def test_tensors_in_any_layout_are_saved_right(tmp_path: Path) -> None:
    config = Config("revgru", 3, 4)
    shapes = config.parameter_shapes()
    base = torch.randn(200)
    params = {
        "weight_ih_l0": base[:36].view(3, 12).t(),  # column by column
        "weight_hh_l0": base[::2][:24].view(12, 2),  # every second, of one storage
        "bias_l0": base[:1].expand(12),
    }
    assert {name: tuple(v.shape) for name, v in params.items()} == shapes
    torch_impl.save_parameters(str(tmp_path / "a"), params, config)
    read, _ = torch_impl.load_parameters(tmp_path / "a")
    assert all(torch.equal(read[name], value) for name, value in params.items())


WRONG: dict[str, tuple[Any, str]] = {
    "integers": (torch.zeros(12, dtype=torch.int32), "E_DTYPE"),
    "bytes": (torch.zeros(12, dtype=torch.uint8), "E_DTYPE"),
    "bools": (torch.zeros(12, dtype=torch.bool), "E_DTYPE"),
    "complex": (torch.zeros(12, dtype=torch.complex64), "E_DTYPE"),
    "NaN": (torch.full((12,), torch.nan), "E_NONFINITE"),
    "infinity": (torch.full((12,), torch.inf), "E_NONFINITE"),
    "shape": (torch.zeros(13), "E_SHAPE"),
    "meta": (torch.zeros(12, device="meta"), "E_DTYPE"),
    "array": (np.zeros(12, np.float32), "E_DTYPE"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tensors_are_not_written_over_a_good_file(tmp_path: Path, case: str) -> None:
    value, code = WRONG[case]
    config, path = Config("revgru", 3, 4), tmp_path / "a"
    params = {name: torch.zeros(shape) for name, shape in config.parameter_shapes().items()}
    torch_impl.save_parameters(path, params, config)
    before = path.read_bytes()
    with pytest.raises(RevRNNError, match=rf"{code}\] bias_l0"):
        torch_impl.save_parameters(path, params | {"bias_l0": value}, config)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    if not isinstance(value, torch.Tensor) or value.is_meta:
        return
    metadata = {"revrnn_config": json.dumps(config.as_dict())}
    save_torch(params | {"bias_l0": value}, tmp_path / "bad", metadata)
    with pytest.raises(RevRNNError, match=rf"{code}.*path.*bad.*bias_l0"):
        torch_impl.load_parameters(tmp_path / "bad")


GOOD = Config("revgru", 3, 4).as_dict()
DAMAGED: dict[str, Any] = {
    "list": {"revrnn_config": "[]"},
    "null": {"revrnn_config": "null"},
    "number": {"revrnn_config": "3"},
    "no JSON": {"revrnn_config": "{"},
    "deep": {"revrnn_config": "[" * 100_000},
    "unknown field": {"revrnn_config": json.dumps(GOOD | {"colour": 1})},
    "wrong type": {"revrnn_config": json.dumps(GOOD | {"hidden_size": "4"})},
    "formats": {"revrnn_config": json.dumps(GOOD | {"formats": 3})},
    "endless": {"revrnn_config": json.dumps(GOOD | {"num_layers": 10**12})},
    "more layers": {"revrnn_config": json.dumps(GOOD | {"num_layers": 2})},
    "other cell": {"revrnn_config": json.dumps(GOOD | {"cell": "revlstm"})},
    "kind": {"revrnn_config": json.dumps(GOOD), "revrnn_kind": "state"},
    "directions": {"revrnn_config": json.dumps(GOOD), "revrnn_directions": "3"},
    "both ways": {"revrnn_config": json.dumps(GOOD), "revrnn_directions": "2"},
    "nothing": {},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_metadata_are_refused_with_the_path(tmp_path: Path, case: str) -> None:
    params = {n: torch.zeros(s) for n, s in Config("revgru", 3, 4).parameter_shapes().items()}
    save_torch(params, tmp_path / "bad", DAMAGED[case])
    with pytest.raises(RevRNNError, match="bad") as caught:
        torch_impl.load_parameters(tmp_path / "bad")
    assert caught.value.argument == "path"


def test_other_paths_are_refused(tmp_path: Path) -> None:
    module = torch_impl.RevGRU(3, 4)
    torch_impl.save_parameters(tmp_path / "good", module)
    (tmp_path / "short").write_bytes((tmp_path / "good").read_bytes()[:-4])
    (tmp_path / "text").write_text("parameters", encoding="ascii")
    (tmp_path / "empty").touch()
    paths = [tmp_path / name for name in ("short", "text", "empty", "none", "none/none")]
    for path in (*paths, tmp_path, 3, "", None, b"good"):
        for load in (torch_impl.load_parameters, torch_impl.load_state):
            with pytest.raises(RevRNNError) as caught:
                load(path)  # type: ignore[arg-type]
            assert caught.value.argument == "path"
    for path in (tmp_path / "none" / "none", tmp_path, 3, ""):
        with pytest.raises(RevRNNError) as caught:
            torch_impl.save_parameters(path, module)  # type: ignore[arg-type]
        assert caught.value.argument == "path"
    for device in ("nowhere", "cuda:77", 2.5):
        with pytest.raises(RevRNNError, match="device"):
            torch_impl.load_parameters(tmp_path / "good", device)  # type: ignore[arg-type]
    for given in ((), torch.nn.GRU(3, 4), None, torch.nn.Sequential(module)):
        with pytest.raises(RevRNNError, match="params"):
            torch_impl.save_parameters(tmp_path / "good", given)  # type: ignore[arg-type]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "good")
    torch_impl.save_parameters(link, torch_impl.RevGRU(3, 8))
    assert link.is_symlink()
    assert torch_impl.load_parameters(tmp_path / "good")[1].hidden_size == 8


@pytest.mark.parametrize("package", [torch_impl, jax_impl])
def test_what_was_read_does_not_change_with_the_file(tmp_path: Path, package: Any) -> None:
    path, module = tmp_path / "a", torch_impl.RevGRU(3, 6)
    torch_impl.save_parameters(path, module)
    params, _ = package.load_parameters(path)
    path.write_bytes(bytes(path.stat().st_size))
    for name, value in params.items():
        assert np.array_equal(np.asarray(value), getattr(module, name).detach().numpy())


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_no_pipe_is_waited_for_and_no_folder_s_name_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RevRNNError, match=r"path: .*a pipe"):
        torch_impl.load_parameters(tmp_path / "pipe")
    with pytest.raises(RevRNNError, match=r"path: .*new/, .* a folder"):
        torch_impl.save_parameters(f"{tmp_path}/new/", torch_impl.RevGRU(3, 6))
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path, module = tmp_path / "shared", torch_impl.RevGRU(3, 4)
    torch_impl.save_parameters(path, module)
    for mode in (0o664, 0o600):
        path.chmod(mode)
        torch_impl.save_parameters(path, module)
        assert path.stat().st_mode & 0o777 == mode
    path.chmod(0o444)
    with pytest.raises(RevRNNError, match=r"path: got .*shared.*may only be read"):
        torch_impl.save_parameters(path, torch_impl.RevGRU(3, 8))
    assert torch_impl.load_parameters(path)[1].hidden_size == 4


def test_what_is_of_the_other_framework_is_told_apart(tmp_path: Path) -> None:
    """Both have a ``State`` and a ``RevGRU``."""
    module, path = torch_impl.RevGRU(3, 4), tmp_path / "p"
    config, x = module.config, np.zeros((2, 1, 3), np.float32)
    theirs: Any
    ours: Any
    theirs, ours = jax_impl.initial_state(config, 1), module.initial_state(1)
    params = jax_impl.init(jax.random.key(0), config)
    other: Any = module
    weights = dict(module.named_parameters())
    for call, whose in (
        (lambda: torch_impl.save_state(path, theirs), "jax"),
        (lambda: module(torch.from_numpy(x), theirs), "jax"),
        (lambda: torch_impl.rev_rnn(torch.from_numpy(x), weights, config, state=theirs), "jax"),
        (lambda: jax_impl.save_state(path, ours), "torch"),
        (lambda: jax_impl.apply(params, jax.numpy.asarray(x), config, state=ours), "torch"),
        (lambda: jax_impl.save_parameters(path, other), "torch"),
    ):
        with pytest.raises(RevRNNError, match=rf"got .*revrnn\.{whose}_impl\."):
            call()
    for tensors in (weights, module.bfloat16().state_dict()):
        with pytest.raises(RevRNNError, match=r"E_DTYPE\] weight_ih_l0: .*NumPy cannot read"):
            jax_impl.save_parameters(path, tensors, config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
@pytest.mark.rule("SEQ-006")
def test_states_are_saved(tmp_path: Path, buffer: str) -> None:
    module = torch_impl.RevLSTM(3, 6, 2, buffer=buffer)
    _, state = module(torch.randn(4, 2, 3), module.initial_state(2))
    torch_impl.save_state(tmp_path / "a", state)
    read = torch_impl.load_state(tmp_path / "a")
    assert read == state
    assert read.config == module.config
    module(torch.randn(1, 2, 3), read)
    with safe_open(tmp_path / "a", framework="numpy") as file:
        assert file.get_tensor("heads").dtype == np.int64
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["heads"][0, 0] = -1
    save_file(tensors, tmp_path / "bad", metadata)
    with pytest.raises(RevRNNError, match=r"E_RANGE.*bad.*heads"):
        torch_impl.load_state(tmp_path / "bad")
    for wrong in (state.h, torch_impl.State(state.h, state.c, state.heads)):
        with pytest.raises(RevRNNError, match="state"):
            torch_impl.save_state(tmp_path / "a", wrong)
