"""Targets and settings of LinearCrossEntropy are checked as PyTorch checks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import ROWS, STEPS, WORDS, Model, _targets
from torch import Tensor, nn
from torch_results import gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, value, value_and_grad


def _bad(**changes: Any) -> Tensor:
    y = _targets("full")
    if "at" in changes:
        y[0, 0] = changes["at"]
    return y.to(changes.get("dtype", torch.int64))


BAD_TARGETS: dict[str, tuple[Any, str]] = {
    "minus one": (_bad(at=-1), "E_RANGE"),
    "one too many": (_bad(at=WORDS), "E_RANGE"),
    "longer": (torch.zeros(STEPS + 1, ROWS, dtype=torch.int64), "E_SHAPE"),
    "shorter": (torch.zeros(STEPS - 1, ROWS, dtype=torch.int64), "E_SHAPE"),
    "rows": (torch.zeros(STEPS, ROWS + 1, dtype=torch.int64), "E_SHAPE"),
    "axes": (torch.zeros(STEPS, ROWS, 1, dtype=torch.int64), "E_SHAPE"),
    "int32": (_bad(dtype=torch.int32), "E_DTYPE"),
    "bool": (_bad(dtype=torch.bool), "E_DTYPE"),
    "classes": (torch.rand(STEPS, ROWS, WORDS - 1), "E_SHAPE"),
    "list": ([1, 2], "E_DTYPE"),
    "none": (None, "E_DTYPE"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_targets_are_checked_as_pytorch_does(case: str) -> None:
    targets, code = BAD_TARGETS[case]
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    cross = LinearCrossEntropy(model.linear)
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError) as caught:
            run(model.rnn, x, targets, cross, embed=model.embed)
        assert (caught.value.code, caught.value.argument) == (code, "targets")
        if code in ("E_SHAPE", "E_DTYPE") and case not in ("rows", "axes", "classes", "int32"):
            if case == "bool":
                continue
            with pytest.raises(RevRNNError, match="targets"):
                run(model.rnn, x, targets, lambda h, y: h.sum(), embed=model.embed)
        assert not gradients_of(model)


@pytest.mark.parametrize("at", [-1, WORDS])
def test_classes_that_a_layer_does_not_tell_are_counted_by_its_logits(at: int) -> None:
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    cross = LinearCrossEntropy(lambda h: model.linear(h))
    h = model.rnn(model.embed(x))[0]
    calls: list[Callable[[], Any]] = [
        lambda: value_and_grad(model.rnn, x, _bad(at=at), cross, embed=model.embed, chunk_size=2),
        lambda: value(model.rnn, x, _bad(at=at), cross, embed=model.embed),
        lambda: cross(h, _bad(at=at)),
    ]
    for call in calls:
        with pytest.raises(RevRNNError) as caught:
            call()
        assert (caught.value.code, caught.value.argument) == ("E_RANGE", "targets")
        assert not gradients_of(model)
    cross.weight = torch.ones(WORDS - 1)
    with pytest.raises(RevRNNError) as caught:
        cross(h, _targets("full"))
    assert (caught.value.code, caught.value.argument) == ("E_SHAPE", "weight")


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 1.5},
        {"label_smoothing": True},
        {"ignore_index": 1.0},
        {"weight": torch.ones(WORDS - 1)},
        {"weight": torch.ones(WORDS).long()},
        {"reduction": "none"},
        {"linear": None},
    ],
)
def test_settings_of_the_readout_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(RevRNNError, match=next(iter(settings))):
        LinearCrossEntropy(**{"linear": nn.Linear(6, WORDS)} | settings)


def test_what_the_readout_is_made_of_is_checked_whenever_it_is_set() -> None:
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    cross = LinearCrossEntropy(model.linear, weight=torch.ones(WORDS))
    for other in (None, nn.Linear):
        with pytest.raises(RevRNNError) as caught:
            cross.linear = other  # type: ignore[assignment]
        assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "linear")
    assert cross.linear is model.linear
    cross.weight = torch.ones(WORDS + 1)
    with pytest.raises(RevRNNError) as caught:
        value_and_grad(model.rnn, x, x, cross, embed=model.embed)
    assert (caught.value.code, caught.value.argument) == ("E_SHAPE", "readout.weight")


def test_outputs_of_any_number_of_axes_have_a_loss() -> None:
    """As ``nn.CrossEntropyLoss``, and of one row too."""
    cross, outputs = LinearCrossEntropy(nn.Linear(6, WORDS)), torch.randn(2, 4, 3, 6)
    targets = torch.randint(WORDS, (2, 4, 3))
    for at in ((), (0,), (0, 1), (0, 1, 2)):
        x, y = outputs[at], targets[at]
        wanted = nn.functional.cross_entropy(
            cross.linear(x).reshape(-1, WORDS), y.reshape(-1), reduction="mean"
        )
        assert torch.allclose(cross(x, y), wanted)
        shares = nn.functional.one_hot(y, WORDS).float()
        assert torch.allclose(cross(x, shares), wanted)


def test_the_layer_may_be_lazy_but_no_class() -> None:
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    model.linear = nn.LazyLinear(WORDS)
    streamed = value_and_grad(model.rnn, x, x, LinearCrossEntropy(model.linear), embed=model.embed)
    assert model.linear.weight.grad is not None
    loss = LinearCrossEntropy(model.linear)(model.rnn(model.embed(x))[0], x)
    assert torch.allclose(streamed.loss, loss)
    with pytest.raises(RevRNNError, match="the class Identity") as caught:
        LinearCrossEntropy(nn.Identity)  # type: ignore[arg-type]
    assert caught.value.argument == "linear"
