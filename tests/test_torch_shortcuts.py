"""A short cut gives what the long way gives: wrappers of modules × ways through × gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as pruning
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, value, value_and_grad
from revrnn.torch_impl.shortcuts import is_plain_embedding, is_plain_linear

STEPS, ROWS, WORDS = 10, 3, 11
prune: Any = pruning
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")


class Twice(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class OwnLinear(nn.Linear):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


class OwnEmbedding(nn.Embedding):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


class OwnTensor(Tensor):
    """A parameter of another class."""


def _low_rank(module: Any, name: str) -> Any:
    """Add a low-rank adapter by peft, with weights that do something."""
    import peft

    whole: Any = nn.ModuleDict({name: module})
    config = peft.LoraConfig(r=2, target_modules=[name], init_lora_weights=False)
    adapted: Any = peft.inject_adapter_in_model(config, whole)
    return adapted[name]


def _patched(module: Any) -> Any:
    own = module.forward
    module.forward = lambda x: own(x) * 2
    return module


def _hooked(method: str, hook: Callable[..., Any]) -> Callable[[Any], Any]:
    def change(module: Any) -> Any:
        getattr(module, method)(hook)
        return module

    return change


def _tensor_hook(module: Any) -> Any:
    module.weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return module


def _other_tensor(module: Any) -> Any:
    weight = nn.Parameter(module.weight.data)
    module.weight = nn.Parameter(weight.data.as_subclass(OwnTensor))
    return module


def _old_weight_norm(module: Any) -> Any:
    nn.utils.weight_norm(module)
    return module


def _old_spectral_norm(module: Any) -> Any:
    return nn.utils.spectral_norm(module)


def _pruned(module: Any) -> Any:
    prune.l1_unstructured(module, "weight", 0.5)
    return module


BOTH: dict[str, Callable[[Any], Any]] = {
    "plain": lambda module: module,
    "parametrised": lambda module: parametrize.register_parametrization(module, "weight", Twice()),
    "weight_norm": lambda module: parametrizations.weight_norm(module),
    "orthogonal": lambda module: parametrizations.orthogonal(module),
    "old weight_norm": _old_weight_norm,
    "old spectral_norm": _old_spectral_norm,
    "pruned": _pruned,
    "forward hook": _hooked("register_forward_hook", lambda m, a, out: out * 2),
    "pre-hook": _hooked("register_forward_pre_hook", lambda m, a: None),
    "backward hook": _hooked(
        "register_full_backward_hook",
        lambda m, i, o: tuple(None if g is None else 2 * g for g in i),
    ),
    "backward pre-hook": _hooked("register_full_backward_pre_hook", lambda m, o: (3 * o[0],)),
    "tensor hook": _tensor_hook,
    "patched": _patched,
    "another tensor": _other_tensor,
    "frozen": lambda module: module.requires_grad_(False),
}
LINEARS = BOTH | {
    "subclass": lambda module: OwnLinear(6, WORDS),
    "lora": lambda module: _low_rank(module, "read"),
    "sequential": lambda module: nn.Sequential(module, nn.Dropout(0.0)),
    "no bias": lambda module: nn.Linear(6, WORDS, bias=False),
}
EMBEDDINGS = BOTH | {
    "subclass": lambda module: OwnEmbedding(WORDS, 4),
    "lora": lambda module: _low_rank(module, "embed"),
    "padding": lambda module: nn.Embedding(WORDS, 4, padding_idx=3),
    "max_norm": lambda module: nn.Embedding(WORDS, 4, max_norm=0.5),
    "sparse": lambda module: nn.Embedding(WORDS, 4, sparse=True),
}
RECURRENT: dict[str, Callable[[Any], Any]] = {
    "pruned": lambda module: prune.l1_unstructured(module, "weight_hh_l0", 0.5),
    "parametrised": lambda module: parametrize.register_parametrization(
        module, "weight_hh_l0", Twice()
    ),
    "weight_norm": lambda module: parametrizations.weight_norm(module, "weight_hh_l0"),
    "spectral_norm": lambda module: parametrizations.spectral_norm(module, "weight_hh_l0"),
    "old weight_norm": lambda module: nn.utils.weight_norm(module, "weight_hh_l0"),
    "old spectral_norm": lambda module: nn.utils.spectral_norm(module, "weight_hh_l0"),
    "input changed": _hooked("register_forward_pre_hook", lambda m, a: (2 * a[0], *a[1:])),
    "input scaled": _hooked("register_forward_pre_hook", lambda m, a: (a[0] * 1.5,)),
    "output changed": _hooked(
        "register_forward_hook", lambda m, a, out: (out[0] * 2 + a[0].sum(-1, True), out[1])
    ),
    "tensor hook": lambda module: (
        module.weight_hh_l0.register_hook(lambda g: g.clamp(-0.01, 0.01)) and module
    ),
}
CASES = (
    [("linear", name) for name in LINEARS]
    + [("embed", name) for name in EMBEDDINGS]
    + [("rnn", name) for name in RECURRENT]
)


def _model(part: str, name: str) -> tuple[Any, Tensor, Tensor]:
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        "embed": nn.Embedding(WORDS, 4),
        "rnn": RevGRU(4, 6),
        "linear": nn.Linear(6, WORDS),
    }
    table = {"linear": LINEARS, "embed": EMBEDDINGS, "rnn": RECURRENT}[part]
    made[part] = table[name](made[part]) or made[part]
    tokens = torch.randint(WORDS, (STEPS + 1, ROWS))
    return nn.ModuleDict(made), tokens[:-1], tokens[1:]


def _dense(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: g.to_dense() for name, g in gradients.items()}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(("part", "name"), CASES, ids=str)
def test_wrappers_do_in_chunks_what_they_do_in_a_call(part: str, name: str) -> None:
    """Two steps of each way, each of which changes what normalisations remember."""
    results: list[Any] = []
    for way in ("call", "streaming"):
        model, x, y = _model(part, name)
        embed, rnn, linear = model["embed"], model["rnn"], model["linear"]
        cross = LinearCrossEntropy(linear)
        losses: list[Any] = []
        for _ in range(2):
            if way == "call":
                loss: Any = functional.cross_entropy(
                    linear(rnn(embed(x))[0]).flatten(0, 1), y.flatten()
                )
                loss.backward()
            else:
                # One chunk, as power iterations are counted by calls.
                loss = value_and_grad(rnn, x, y, cross, embed=embed, chunk_size=16).loss
            losses.append((loss.detach(), _dense(gradients_of(model))))
        model.eval()
        with torch.no_grad():
            logits = linear(rnn(embed(x))[0])
        called = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        assert torch.allclose(
            value(rnn, x, y, cross, embed=embed, chunk_size=4).loss, called, rtol=1e-5
        )
        results.append((losses, called))
    for (loss, wanted), (own, gradients) in zip(results[0][0], results[1][0], strict=True):
        assert torch.allclose(own, loss, rtol=1e-5)
        assert close(gradients, wanted)
    assert torch.allclose(results[1][1], results[0][1], rtol=1e-5)


def test_short_cuts_are_for_plain_modules_alone() -> None:
    for table, plain, own in (
        (LINEARS, is_plain_linear, nn.Linear(6, WORDS)),
        (EMBEDDINGS, is_plain_embedding, nn.Embedding(WORDS, 4)),
    ):
        taken = {
            name
            for name in table
            if plain(
                _model("linear" if table is LINEARS else "embed", name)[0][
                    "linear" if table is LINEARS else "embed"
                ]
            )
        }
        assert taken <= {"plain", "tensor hook", "frozen", "no bias", "padding"}
        assert {"plain", "frozen"} <= taken
        handle = register_module_forward_hook(lambda m, a, out: None)
        assert not plain(own)
        handle.remove()
        assert plain(own)


def test_new_values_of_pruned_weights_are_used() -> None:
    model, x, y = _model("rnn", "pruned")
    state = {name: value * 2 for name, value in model.state_dict().items()}
    state["rnn.weight_hh_l0_mask"] = model.state_dict()["rnn.weight_hh_l0_mask"]
    model.load_state_dict(state)
    cross = LinearCrossEntropy(model["linear"])
    streamed = value(model["rnn"], x, y, cross, embed=model["embed"])
    logits = model["linear"](model["rnn"](model["embed"](x))[0])
    wanted = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
    assert torch.allclose(streamed.loss, wanted, rtol=1e-5)


def test_hooks_that_look_see_every_chunk_once_and_others_run_once() -> None:
    model, x, y = _model("linear", "plain")
    rnn, seen, calls, after = model["rnn"], [], [], []
    rnn.register_forward_pre_hook(lambda m, a: seen.append(len(a[0])))
    rnn.register_forward_pre_hook(lambda m, a, k: calls.append(1), with_kwargs=True)
    rnn.register_forward_hook(lambda m, a, out: after.append(len(out[0])))
    cross = LinearCrossEntropy(model["linear"])
    for run in (value_and_grad, value):
        run(rnn, x, y, cross, embed=model["embed"], chunk_size=4)
        assert (seen, calls, sorted(after)) == ([4, 4, 2], [1], [2, 4, 4])
        del seen[:], calls[:], after[:]


REFUSED: dict[str, Callable[[Any], Any]] = {
    "backward hook": lambda m: m.register_full_backward_hook(lambda m, i, o: None),
    "final state": lambda m: m.register_forward_hook(lambda m, a, out: out[1].sum() and None),
    "other result": lambda m: m.register_forward_hook(lambda m, a, out: out[0]),
    "other shape": lambda m: m.register_forward_pre_hook(lambda m, a: (a[0][:1],)),
    "forward": lambda m: setattr(m, "forward", lambda x: x),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hooks_that_need_the_whole_are_refused_by_name(case: str) -> None:
    model, x, y = _model("linear", "plain")
    REFUSED[case](model["rnn"])
    cross = LinearCrossEntropy(model["linear"])
    name = "forward of its own" if case == "forward" else "lambda"
    with pytest.raises(RevRNNError, match=name) as caught:
        value_and_grad(model["rnn"], x, y, cross, embed=model["embed"])
    assert (caught.value.code, caught.value.argument) == ("E_UNSUPPORTED", "module")
    assert not gradients_of(model)


def test_a_subclass_of_the_stack_with_a_forward_of_its_own_is_refused() -> None:
    class Doubled(RevGRU):
        def forward(self, *given: Any, **options: Any) -> Any:
            return super().forward(2 * given[0], *given[1:], **options)

    x = torch.randn(4, 2, 3)
    with pytest.raises(RevRNNError, match="Doubled"):
        value(Doubled(3, 4), x, x, lambda h, y: h.sum())
    copied = copy.deepcopy(RevGRU(3, 4))
    assert value(copied, x, x, lambda h, y: h.sum()).loss.isfinite()
