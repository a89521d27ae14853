"""Bad arguments of the streaming functions, each by the name that the caller used."""

from __future__ import annotations

from collections import UserDict
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_results import gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import (
    LinearCrossEntropy,
    RevGRU,
    RevLSTM,
    encode,
    initial_state,
    value,
    value_and_grad,
)

STEPS, ROWS = 6, 2
NAN = float("nan")


class Own(RevLSTM):
    """A subclass without a forward of its own is no different."""


def _arguments() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "module": Own(4, 6, 2),
        "inputs": torch.randn(STEPS, ROWS, 4),
        "targets": torch.zeros(STEPS, ROWS),
        "readout": lambda h, y: h.square().mean(),
    }


def _h(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape), torch.zeros(shape)


def _scale(**options: Any) -> Tensor:
    return torch.ones((), **options)


OTHER = RevGRU(4, 6, 2).config
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "module": ("module", {"module": nn.LSTM(4, 6)}, "E_ARGUMENT"),
    "both ways": ("module", {"module": RevLSTM(4, 6, bidirectional=True)}, "E_UNSUPPORTED"),
    "list": ("inputs", {"inputs": [[1.0]]}, "E_DTYPE"),
    "one axis": ("inputs", {"inputs": torch.zeros(3)}, "E_SHAPE"),
    "no rows": ("inputs", {"inputs": torch.zeros(3, 0, 4)}, "E_SHAPE"),
    "features": ("inputs", {"inputs": torch.zeros(STEPS, ROWS, 5)}, "E_SHAPE"),
    "tokens": ("inputs", {"inputs": torch.zeros(STEPS, ROWS, 4).long()}, "E_DTYPE"),
    "NaN": ("inputs", {"inputs": torch.full((STEPS, ROWS, 4), NAN)}, "E_NONFINITE"),
    "sparse targets": (
        "targets",
        {"targets": torch.zeros(STEPS, ROWS).to_sparse()},
        "E_UNSUPPORTED",
    ),
    "no numbers": (
        "targets",
        {"targets": torch.zeros(STEPS, ROWS, device="meta")},
        "E_UNSUPPORTED",
    ),
    "targets of NumPy without axes": ("targets", {"targets": np.array(1.0)}, "E_SHAPE"),
    "a scale without a number": ("loss_scale", {"loss_scale": _scale(device="meta")}, "E_ARGUMENT"),
    "no function": ("embed", {"embed": 3}, "E_ARGUMENT"),
    "embed's shape": ("embed", {"embed": lambda x: x[:, :, :3]}, "E_SHAPE"),
    "embed's type": ("embed", {"embed": lambda x: x.long()}, "E_DTYPE"),
    "embed's kind": ("embed", {"embed": lambda x: [x]}, "E_DTYPE"),
    "embed's NaN": ("embed", {"embed": lambda x: x / 0}, "E_NONFINITE"),
    "embed's module": ("embed", {"embed": nn.Linear(5, 4)}, "E_ARGUMENT"),
    "embed's arguments": ("embed", {"embed": lambda x, y: x}, "E_ARGUMENT"),
    "floats as rows": (
        "inputs",
        {"embed": nn.Embedding(3, 4), "inputs": torch.zeros(STEPS, ROWS)},
        "E_DTYPE",
    ),
    "compiled": (
        "module",
        {"module": torch.compile(RevLSTM(4, 6, 2), backend="eager")},
        "E_UNSUPPORTED",
    ),
    "readout": ("readout", {"readout": None}, "E_ARGUMENT"),
    "readout's arguments": ("readout", {"readout": lambda h: h.mean()}, "E_ARGUMENT"),
    "readout's module": ("readout", {"readout": nn.BCEWithLogitsLoss()}, "E_ARGUMENT"),
    "readout's function": ("readout", {"readout": partial(nn.functional.nll_loss)}, "E_ARGUMENT"),
    "a class as readout": ("readout", {"readout": nn.MSELoss}, "E_ARGUMENT"),
    "a class as embed": ("embed", {"embed": nn.Identity}, "E_ARGUMENT"),
    "a layer as readout": ("readout", {"readout": nn.Linear(6, 2)}, "E_ARGUMENT"),
    "targets": ("targets", {"targets": torch.zeros(STEPS + 1, ROWS)}, "E_SHAPE"),
    "targets' axes": ("targets", {"targets": torch.zeros(())}, "E_SHAPE"),
    "targets' kind": ("targets", {"targets": {STEPS}}, "E_ARGUMENT"),
    "a mapping as targets": ("targets", {"targets": UserDict(y=torch.zeros(1))}, "E_ARGUMENT"),
    "targets' number": ("targets", {"targets": [torch.zeros(ROWS)] * (STEPS - 1)}, "E_SHAPE"),
    "state": ("state", {"state": torch.zeros(2, ROWS, 6)}, "E_ARGUMENT"),
    "another cell": ("state", {"state": initial_state(OTHER, ROWS)}, "E_ARGUMENT"),
    "hx's shape": ("hx", {"hx": _h(1, ROWS, 6)}, "E_SHAPE"),
    "hx's number": ("hx", {"hx": torch.zeros(2, ROWS, 6)}, "E_ARGUMENT"),
    "mask's shape": ("mask", {"mask": torch.ones(ROWS, STEPS).bool()}, "E_SHAPE"),
    "mask's type": ("mask", {"mask": torch.ones(STEPS, ROWS)}, "E_DTYPE"),
    "resets": ("resets", {"resets": torch.ones(STEPS).bool()}, "E_SHAPE"),
    "reduction": ("reduction", {"reduction": "none"}, "E_ARGUMENT"),
    "chunk": ("chunk_size", {"chunk_size": 0}, "E_ARGUMENT"),
    "checkpoints": ("checkpoint_every", {"checkpoint_every": 2.0}, "E_ARGUMENT"),
    "offload": ("offload", {"offload": "yes"}, "E_ARGUMENT"),
    "report": ("report", {"report": 1}, "E_ARGUMENT"),
    "through": ("through_hx", {"through_hx": 1}, "E_ARGUMENT"),
    "scale": ("loss_scale", {"loss_scale": "2"}, "E_ARGUMENT"),
    "NaN scale": ("loss_scale", {"loss_scale": NAN}, "E_NONFINITE"),
    "infinite scale": ("loss_scale", {"loss_scale": torch.tensor(float("inf"))}, "E_NONFINITE"),
    "scales": ("loss_scale", {"loss_scale": torch.ones(2)}, "E_ARGUMENT"),
    "learnt scale": ("loss_scale", {"loss_scale": _scale(requires_grad=True)}, "E_ARGUMENT"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_bad_arguments_are_named_before_any_work(case: str) -> None:
    name, changes, code = BAD[case]
    given = _arguments() | changes
    late = case.startswith("embed's") or case in ("NaN", "readout's module", "readout's function")
    calls: list[int] = []

    def embed(x: Tensor) -> Tensor:
        calls.append(1)
        return x

    if not late and "embed" not in changes and case not in ("tokens", "features"):
        given["embed"] = embed
    for run in (value_and_grad, value):
        if run is value and name in (
            "checkpoint_every",
            "offload",
            "report",
            "through_hx",
            "loss_scale",
        ):
            continue
        with pytest.raises(RevRNNError) as caught:
            run(**given)
        assert caught.value.code == code
        assert caught.value.argument.split(".")[0].split("[")[0] == name
        assert not calls
        assert not gradients_of(given["module"])


def test_a_readout_called_as_a_function_names_what_it_cannot_take() -> None:
    readout, h = LinearCrossEntropy(nn.Linear(6, 4)), torch.zeros(STEPS, ROWS, 6)
    y: Any = torch.zeros(STEPS, ROWS).long()
    for outputs, targets, said in (
        ([1.0], y, r"E_DTYPE\] outputs: got list"),
        (h, y.int(), r"E_DTYPE\] targets: got torch\.int32"),
        (h, y.to_sparse(), r"E_UNSUPPORTED\] targets"),
    ):
        with pytest.raises(RevRNNError, match=said):
            readout(outputs, targets)
    with pytest.raises(RevRNNError, match="label_smoothing"):
        LinearCrossEntropy(nn.Linear(6, 4), label_smoothing=10**400)


def test_numpys_numbers_and_negative_scales_are_numbers() -> None:
    given = _arguments()
    wanted = value_and_grad(**given, chunk_size=4, checkpoint_every=4, loss_scale=-2.0)
    gradients = gradients_of(given["module"])
    streamed = value_and_grad(
        **given,
        chunk_size=np.int64(4),  # type: ignore[arg-type]
        checkpoint_every=np.int32(4),  # type: ignore[arg-type]
        loss_scale=np.float32(-2),  # type: ignore[arg-type]
    )
    assert torch.equal(streamed.loss, wanted.loss)
    assert all(torch.equal(gradients[n], g) for n, g in gradients_of(given["module"]).items())


def test_tokens_out_of_range_are_pytorchs_affair_and_leave_no_gradient() -> None:
    module, embed = RevGRU(4, 6), nn.Embedding(5, 4)
    tokens = torch.full((STEPS, ROWS), 5)
    with pytest.raises(IndexError):
        value_and_grad(module, tokens, tokens, lambda h, y: h.sum(), embed=embed)
    assert not gradients_of(module)
    small = tokens.sub(1).to(torch.int32)
    value_and_grad(module, small, small, lambda h, y: h.sum(), embed=embed)
    assert embed.weight.grad is not None


def test_encode_checks_as_the_others_do() -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (RevGRU(4, 6), {}, "slice_size"),
        (nn.GRU(4, 6), {}, "module"),
        (RevGRU(4, 6, slice_size=1), {"inputs": torch.zeros(STEPS, ROWS, 5)}, "inputs"),
        (RevGRU(4, 6, slice_size=1), {"embed": 1}, "embed"),
        (RevGRU(4, 6, slice_size=1), {"mask": torch.ones(STEPS).bool()}, "mask"),
        (RevGRU(4, 6, slice_size=1), {"state": 1}, "state"),
    ]
    for module, changes, name in cases:
        given: dict[str, Any] = {"inputs": torch.zeros(STEPS, ROWS, 4)} | changes
        with pytest.raises(RevRNNError) as caught:
            encode(module, **given)
        assert caught.value.argument == name
