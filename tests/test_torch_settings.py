"""Modules that are changed, saved and loaded: what does not fit is refused by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from revrnn import Formats, RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, initial_state

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


def gru(**settings: Any) -> RevGRU:
    return RevGRU(3, 6, 2, **settings)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dropout": (lambda m: setattr(m, "dropout", 0.99), "dropout"),
    "dropout NaN": (lambda m: setattr(m, "dropout", float("nan")), "dropout"),
    "weight drop": (lambda m: setattr(m, "weight_drop", 2), "weight_drop"),
    "batch first": (lambda m: setattr(m, "batch_first", 1), "batch_first"),
    "chunk": (lambda m: setattr(m, "chunk_size", 0), "chunk_size"),
    "pieces": (lambda m: setattr(m, "checkpoint_every", 2.5), "checkpoint_every"),
    "offload": (lambda m: setattr(m, "offload", "yes"), "offload"),
    "directions": (lambda m: setattr(m, "bidirectional", True), "bidirectional"),
    "bias": (lambda m: setattr(m, "bias", False), "bias"),
    "layers": (lambda m: setattr(m, "num_layers", 3), "num_layers"),
    "width": (lambda m: setattr(m, "hidden_size", 8), "hidden_size"),
    "projection": (lambda m: setattr(m, "proj_size", 2), "proj_size"),
    "cap": (lambda m: setattr(m, "z_max", 900), "z_max"),
    "another layout": (lambda m: setattr(m, "buffer", "wordlist"), "buffer"),
    "config": (lambda m: setattr(m, "config", replace(m.config, hidden_size=8)), "config"),
    "layout": (lambda m: setattr(m, "config", replace(m.config, buffer="bigint")), "buffer"),
    "shape": (lambda m: setattr(m, "weight_hh_l1", nn.Parameter(X)), "weight_hh_l1"),
    "type": (lambda m: setattr(m, "bias_l1", nn.Parameter(m.bias_l1.detach().double())), "bias_l1"),
    "data": (lambda m: setattr(m.weight_hh_l0, "data", torch.ones(3)), "weight_hh_l0"),
    "NaN": (lambda m: nn.init.constant_(m.bias_l1, torch.nan), "bias_l1"),
    "none": (lambda m: setattr(m, "weight_ih_l1", None), "weight_ih_l1"),
    "deleted": (lambda m: delattr(m, "weight_hh_l0"), "weight_hh_l0"),
    "complex": (
        lambda m: setattr(m, "bias_l0", nn.Parameter(torch.zeros(18, dtype=torch.complex64))),
        "bias_l0",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changes_after_construction_are_refused(case: str) -> None:
    change, name = CHANGES[case]
    module = gru(dropout=0.5)

    def changed_and_called() -> None:
        change(module)
        module(X)

    with pytest.raises(RevRNNError) as caught:
        changed_and_called()
    assert caught.value.argument == name


@pytest.mark.parametrize("name", ["weight_hh_l1", "bias_l1_reverse"])
def test_parameters_have_the_callers_names_in_two_directions(name: str) -> None:
    module = gru(bidirectional=True)
    nn.init.constant_(getattr(module, name), torch.inf)
    with pytest.raises(RevRNNError, match=rf"E_NONFINITE\] {name}"):
        module(X)


def test_changes_that_fit_are_taken() -> None:
    module = gru()
    module.dropout, module.batch_first, module.bias = np.float32(0.25), True, True  # type: ignore[assignment]
    module.config = replace(module.config, max_forget_bits=5)
    module.chunk_size = np.int64(4)  # type: ignore[assignment]
    assert type(module.chunk_size) is int
    assert module(X.transpose(0, 1))[0].shape == (2, 5, 6)
    assert module.max_forget_bits == 5
    assert [w.shape for w in module.all_weights[0]] == [(18, 3), (18, 3), (18,)]
    replica = module._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    for key, value in module.named_parameters():
        setattr(replica, key, value.detach())
    assert replica(X.transpose(0, 1))[0].shape == (2, 5, 6)
    old = dict(module.__dict__)
    del old["offload"]
    bare = RevGRU.__new__(RevGRU)
    bare.__setstate__(old)
    assert bare.offload is False


def test_numpy_whole_numbers() -> None:
    sizes = {"input_size": 3, "hidden_size": 6, "num_layers": 2, "max_forget_bits": 2}
    module = RevGRU(**{name: np.int64(size) for name, size in sizes.items()})  # type: ignore[arg-type]
    assert module.config == RevGRU(**sizes).config  # type: ignore[arg-type]
    assert type(module.config.hidden_size) is int
    assert initial_state(module.config, np.int32(2)) == module.initial_state(2)  # type: ignore[arg-type]
    with pytest.raises(RevRNNError, match="num_layers"):
        RevGRU(3, 6, np.bool_(True))  # type: ignore[arg-type]


DIFFERENT: dict[str, Any] = {
    "max_forget_bits": 5,
    "buffer": "wordlist",
    "formats": Formats(22),
    "z_max": 1000,
    "forgetting": False,
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_weights_of_another_stack_are_refused(name: str) -> None:
    saved, other = gru().state_dict(), gru(**{name: DIFFERENT[name]})
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RevRNNError, match=rf"state_dict.*{name}"):
        other.load_state_dict(saved)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())
    with pytest.raises(RuntimeError, match=name):
        nn.Sequential(other).load_state_dict(nn.Sequential(gru()).state_dict())
    if name != "forgetting":
        (report,) = other.load_state_dict(saved, strict=False).unexpected_keys
        assert name in report
        assert torch.equal(other.weight_ih_l0, saved["weight_ih_l0"])
    with pytest.raises(RevRNNError, match="revlstm"):
        gru().load_state_dict(RevLSTM(3, 6, 2).state_dict())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("metadata", [3, [], {"": None}, {"": {"revrnn_config": 3}}])
def test_metadata_of_another_kind_are_refused(metadata: Any, strict: bool) -> None:
    state, module = gru().state_dict(), gru()
    state._metadata = metadata  # type: ignore[attr-defined]
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] state_dict: got .*metadata"):
        module.load_state_dict(state, strict)


def test_saved_weights_come_back(tmp_path: Path) -> None:
    module = nn.Sequential(gru())
    file = BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert set(saved) == {f"0.{name}" for name, _ in gru().named_parameters()}
    for state in (saved, dict(saved)):
        other = nn.Sequential(gru())
        other.load_state_dict(state)
        assert torch.equal(other(X)[0], module(X)[0])
    save_model(module, str(tmp_path / "model"))
    other = nn.Sequential(gru())
    load_model(other, str(tmp_path / "model"))
    average = AveragedModel(module)
    average.update_parameters(module)
    plain = gru(bias=False)
    plain.load_state_dict({**plain.state_dict(), "bias_l0": torch.zeros(18)})
    with pytest.raises(RuntimeError, match="bias_l0"):
        plain.load_state_dict({**plain.state_dict(), "bias_l0": torch.ones(18)})
    for copied in (other, average, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(X)[0], module(X)[0])


def test_pre_hooks_run_in_encode_as_in_a_call() -> None:
    torch.manual_seed(0)
    module = RevGRU(3, 6, slice_size=2)
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        module.weight_hh_l0_orig.mul_(-1)  # type: ignore[operator]
    seen: list[object] = []

    def double(module: nn.Module, args: tuple[Any, ...]) -> Any:
        seen.append(len(args))
        return (2 * args[0], *args[1:])

    def keep(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        seen.append(sorted(kwargs))
        return args, {"mask": mask}

    module.register_forward_pre_hook(double)
    module.register_forward_pre_hook(keep, with_kwargs=True)
    x, mask = torch.randn(4, 2, 3), torch.tensor([[True, True]] * 3 + [[True, False]])
    context = module.encode(x, torch.zeros(1, 2, 6), mask=None).context
    assert seen == [2, ["mask"]]
    outputs, _ = module(x, torch.zeros(1, 2, 6))  # the hooks give the same again
    assert context is not None
    assert torch.equal(context, outputs[..., :2])


def test_parametrised_and_pruned_weights_are_used() -> None:
    module = gru()
    parametrizations.weight_norm(module, "weight_hh_l0")
    prune.l1_unstructured(module, "weight_ih_l1", 0.5)  # type: ignore[no-untyped-call]
    outputs, _ = module(X)
    outputs.sum().backward()
    weight = module.get_parameter("parametrizations.weight_hh_l0.original1")
    assert weight.grad is not None
    assert weight.grad.any()
    plain = gru()
    plain.load_state_dict({n: v.detach() for n, v in module.named_weights().items()})
    assert torch.equal(plain(X)[0], outputs)
    assert (plain.weight_ih_l1 == 0).sum() >= 54  # type: ignore[union-attr]


@pytest.mark.parametrize("both_ways", [False, True])
def test_parametrisations_are_computed_once_a_call(both_ways: bool) -> None:
    """Spectral normalisation goes a step on each time."""
    module = gru(bidirectional=both_ways)
    parametrizations.spectral_norm(module, "weight_hh_l0")
    other = copy.deepcopy(module)
    module(X)
    assert other.weight_hh_l0.shape == (18, 3)  # computes it once
    for name, value in module.named_buffers():
        assert torch.equal(value, other.get_buffer(name))


def test_parameters_that_a_subclass_adds_are_not_drawn_anew() -> None:
    class Own(RevLSTM):
        def __init__(self) -> None:
            super().__init__(3, 6)
            self.bias_of_another = nn.Parameter(torch.ones(2))
            self.norm = nn.LayerNorm(6)

    torch.manual_seed(0)
    module = Own()
    wanted = {name: value.clone() for name, value in module.named_parameters()}
    torch.manual_seed(0)
    nn.init.zeros_(module.bias_l0)  # type: ignore[arg-type]
    module.reset_parameters()
    assert all(torch.equal(value, wanted[name]) for name, value in module.named_parameters())
    prune.l1_unstructured(module, "bias_l0", 0.5)  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    module.reset_parameters()
    assert set(module.bias_l0_orig.tolist()) == set(wanted["bias_l0"].tolist())  # type: ignore[operator]
