"""Transforms of PyTorch around a module: each gives the plain call's numbers, or says it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, linearize, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, State, encode, value

torch.manual_seed(0)
X = torch.randn(4, 5, 2, 3)  # four sequences
both = pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
Named = dict[str, Tensor]


class Model(nn.Module):
    """A recurrent module with something around it."""

    def __init__(self, kind: Any = RevGRU) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rnn, self.linear = kind(3, 6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.rnn(x)
        logits: Tensor = self.linear(outputs)
        return logits


def loss_of(model: nn.Module, params: Named, x: Tensor) -> Tensor:
    outputs: Tensor = functional_call(model, params, (x,))
    return outputs.square().sum()


def plain(model: nn.Module, x: Tensor) -> tuple[Named, Tensor]:
    """Return the gradients of a plain call, of the parameters and of the input."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    model(x).square().sum().backward()
    assert x.grad is not None
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, x.grad


def close(a: Named, b: Named) -> bool:
    return set(a) == set(b) and all(torch.allclose(a[n], b[n], rtol=1e-4, atol=1e-5) for n in a)


def by_grad(model: Model, params: Named) -> list[Named]:
    return [grad(lambda p, x: loss_of(model, p, x))(params, x) for x in X]


def by_vmap_of_grad(model: Model, params: Named) -> list[Named]:
    gradients = vmap(grad(lambda p, x: loss_of(model, p, x)), in_dims=(None, 0))(params, X)
    return [{name: value[i] for name, value in gradients.items()} for i in range(len(X))]


def by_vjp(model: Model, params: Named) -> list[Named]:
    return [vjp(lambda p, x=x: loss_of(model, p, x), params)[1](torch.ones(()))[0] for x in X]


def by_ensemble(model: Model, params: Named) -> list[Named]:
    stacked = {name: torch.stack([value] * len(X)) for name, value in params.items()}
    gradients = grad(lambda p: vmap(lambda q, x: loss_of(model, q, x))(p, X).sum())(stacked)
    return [{name: value[i] for name, value in gradients.items()} for i in range(len(X))]


def by_checkpoint(model: Model, params: Named, reentrant: bool) -> list[Named]:
    by_row = []
    for x in X:
        model.zero_grad()
        outputs = checkpoint(model, x.clone().requires_grad_(), use_reentrant=reentrant)
        outputs.square().sum().backward()
        by_row.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    return by_row


WORKS: dict[str, Callable[[Model, Named], list[Named]]] = {
    "grad": by_grad,
    "vmap of grad": by_vmap_of_grad,
    "vjp": by_vjp,
    "vmap over parameters": by_ensemble,
    "checkpoint": lambda model, params: by_checkpoint(model, params, False),
    "reentrant checkpoint": lambda model, params: by_checkpoint(model, params, True),
}


@both
@pytest.mark.parametrize("case", WORKS)
@pytest.mark.rule("GRAD-020")
def test_gradients_are_those_of_the_plain_call(kind: Any, case: str) -> None:
    model = Model(kind)
    params = {name: value.detach() for name, value in model.named_parameters()}
    wanted = [plain(model, x)[0] for x in X]
    wanted = [{name: value.clone() for name, value in each.items()} for each in wanted]
    for a, b in zip(WORKS[case](model, params), wanted, strict=True):
        assert close(a, b)


@both
def test_values_of_transformed_calls(kind: Any) -> None:
    model, rnn = Model(kind), kind(3, 6, 2)
    rows = torch.stack([model(x) for x in X])
    # The linear layer is floats, whose bits depend on the processor and on how many rows there are.
    assert torch.allclose(vmap(model)(X), rows)
    assert torch.allclose(vmap(vmap(model))(X.unsqueeze(1))[:, 0], rows)
    assert torch.allclose(torch.fx.symbolic_trace(model)(X[0]), rows[0])
    exact = vmap(lambda x: rnn(x, rnn.initial_state(2))[1])(X)
    _, state = rnn(X[3], rnn.initial_state(2))
    assert isinstance(exact, State)
    for name, each in exact.tensors().items():
        assert torch.equal(each[3], state.tensors()[name])
    dropping = kind(3, 6, 2, dropout=0.5)
    with pytest.raises(RevRNNError, match=r"dropout.*vmap"):
        vmap(lambda x: dropping(x)[0])(X)


@both
def test_tensors_without_numbers_give_shapes(kind: Any) -> None:
    model = kind(3, 6, 2, device="meta", dropout=0.3, slice_size=2)
    x = torch.randn(5, 2, 3, device="meta", requires_grad=True)
    outputs, last = model(x, model.initial_state(2))
    assert outputs.shape == (5, 2, 6)
    assert last.h.shape == (2, 2, 6)
    assert model.encode(x).context.shape == (5, 2, 2)
    outputs.sum().backward()
    assert x.grad is not None
    assert model.weight_hh_l1.grad.shape == model.weight_hh_l1.shape
    with FakeTensorMode():
        fake = kind(3, 6, 2, dropout=0.3, bidirectional=True)
        outputs, _ = fake(torch.randn(5, 2, 3))
        outputs.sum().backward()
        assert outputs.shape == (5, 2, 12)
        assert fake.bias_l0.grad.shape == fake.bias_l0.shape


def tangent() -> None:
    with forward_ad.dual_level():
        Model()(forward_ad.make_dual(X[0], X[0]))  # type: ignore[no-untyped-call]


def second() -> None:
    x = X[0].clone().requires_grad_()
    torch.autograd.grad(Model()(x).sum(), x, create_graph=True)


def batched() -> None:
    x = X[0].clone().requires_grad_()
    torch.autograd.grad(Model()(x), x, torch.ones(2, 5, 2, 2), is_grads_batched=True)


def loss_by_chunks(x: Tensor) -> Tensor:
    rnn = RevGRU(3, 6)
    return value(rnn, x, x, lambda outputs, _: outputs.mean()).loss


def tangent_by_chunks() -> None:
    with forward_ad.dual_level():
        loss_by_chunks(forward_ad.make_dual(X[0], X[0]))  # type: ignore[no-untyped-call]


def to_onnx() -> None:
    torch.onnx.export(RevGRU(3, 6), (X[0],), "never.onnx", dynamo=False)


MODEL = Model()
# What is tried, and what the message names.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "jvp": (lambda: jvp(Model(), (X[0],), (X[0],)), "jvp"),
    "forward mode": (tangent, "jvp"),
    "jacobian": (lambda: jacrev(lambda x: MODEL(x).sum(0))(X[0]), "jacrev"),
    "batched gradients": (batched, "is_grads_batched"),
    "forward mode by chunks": (tangent_by_chunks, "jvp"),
    "linearize": (lambda: linearize(MODEL, X[0]), "jvp"),
    "hessian": (lambda: hessian(lambda x: MODEL(x).square().sum())(X[0]), "jvp|create_graph"),
    "second derivatives": (second, "create_graph"),
    "export": (lambda: torch.export.export(Model(), (X[0],), strict=False), "torch.export"),
    "make_fx": (lambda: make_fx(Model())(X[0]), "torch.export"),
    "script": (lambda: torch.jit.script(Model()), "torch.jit.script"),
    "trace": (lambda: torch.jit.trace(Model(), (X[0],)), "torch.jit.trace"),  # type: ignore[no-untyped-call]
    "trace by chunks": (lambda: torch.jit.trace(loss_by_chunks, (X[0],)), "torch.jit.trace"),  # type: ignore[no-untyped-call]
    "onnx": (to_onnx, "torch.jit.trace"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.rule("GRAD-022")
def test_what_does_not_work_says_so(case: str) -> None:
    call, word = REFUSED[case]
    with pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED.*({word})"):
        call()


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_around_it() -> None:
    torch._dynamo.reset()
    model = Model()
    wanted, wanted_x = plain(model, X[0])
    wanted = {name: value.clone() for name, value in wanted.items()}
    gradients, gradient_x = plain(torch.compile(model, backend="aot_eager"), X[0])  # type: ignore[arg-type]
    assert close({n.removeprefix("_orig_mod."): v for n, v in gradients.items()}, wanted)
    assert torch.allclose(gradient_x, wanted_x)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="revrnn looks at numbers"):
        torch.compile(model, backend="eager", fullgraph=True)(X[0])


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("encoder", [False, True])
def test_a_compiled_training_step(encoder: bool) -> None:
    """The backward pass is called from within compiled code as well."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(1)
        rnn = RevGRU(3, 6, 2, slice_size=2)
        optimiser = torch.optim.SGD(rnn.parameters(), 0.1)

        def step(x: Tensor, rnn: Any = rnn, optimiser: Any = optimiser) -> Tensor:
            optimiser.zero_grad()
            outputs = encode(rnn, x)[0] if encoder else rnn(x)[0]
            loss = outputs.square().sum()
            loss.backward()
            optimiser.step()
            return loss

        run: Any = torch.compile(step, backend="eager") if compiled else step
        losses = [run(x).detach() for x in X[:2]]
        results.append([*losses, rnn.get_parameter("weight_hh_l0").detach().clone()])
    torch._dynamo.reset()
    assert all(torch.allclose(a, b) for a, b in zip(*results, strict=True))
