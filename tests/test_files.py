"""Parameters in a file: written by one framework, read by the other, the same bits."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

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
