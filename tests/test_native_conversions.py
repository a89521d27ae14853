"""The native engine's conversions give the bits of PyTorch's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from revrnn.errors import RevRNNError
from revrnn.formats import Formats
from revrnn.torch_impl import RevLSTM, chunks, engine
from revrnn.torch_impl.conversions import Conversions
from revrnn.torch_impl.native.conversions import CONVERSIONS

PLAIN, FORMATS = Conversions(), Formats()
HALVES = (torch.arange(-40, 40) + 0.5) / 2**FORMATS.operand_bits
HARD = torch.cat(
    [
        HALVES,
        torch.nextafter(HALVES, torch.tensor(torch.inf)),
        torch.nextafter(HALVES, torch.tensor(-torch.inf)),
        torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e38, -1e38, 3.4e38, 8.0, -8.0, 7.9375, -7.9375]),
        torch.randn(333, generator=torch.Generator().manual_seed(0)) * 4,
    ]
)


class Wrapped(Tensor):
    """Numbers that are not in the memory that it says it has."""

    @staticmethod
    def __new__(cls, own: Tensor) -> Wrapped:
        """Wrap a tensor."""
        made: Wrapped = Tensor._make_wrapper_subclass(cls, own.shape, dtype=own.dtype)
        made.own = own
        return made

    own: Tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute with what is wrapped."""
        plain = tree_map(lambda v: v.own if isinstance(v, Wrapped) else v, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda x: x,
    "one axis more": lambda x: x[:504].view(6, 7, 12),
    "every other": lambda x: x[::2],
    "transposed": lambda x: x[:504].view(6, 84).t(),
    "empty": lambda x: x[:0],
    "a leaf": lambda x: x.clone().requires_grad_(),
    "negated by a bit": lambda x: torch._neg_view(x),
    "wrapped": Wrapped,
    "of float64": lambda x: x.double(),
    "of float16": lambda x: x.half().nan_to_num(1.0, 60000.0, -60000.0),
}


@pytest.mark.rule("QNT-001", "QNT-002", "QNT-003")
@pytest.mark.parametrize("kind", ["operand", "weight", "bias", "state"])
@pytest.mark.parametrize("name", VIEWS)
def test_quantised_bits_are_the_same(name: str, kind: str) -> None:
    """Halves, ends of the range, and every layout of a tensor."""
    x = VIEWS[name](HARD).detach()
    ours, theirs = (by.quantise(kind, x, FORMATS) for by in (CONVERSIONS, PLAIN))
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours, theirs)


@pytest.mark.rule("QNT-006")
@pytest.mark.parametrize("bits", [0, 12, 23])
def test_dequantised_bits_and_magnitudes_are_the_same(bits: int) -> None:
    """The ends of int32 included; results go where they should."""
    some = torch.randint(-(2**31), 2**31 - 1, (6, 50), dtype=torch.int64).to(torch.int32)
    some[0, :3] = torch.tensor([-(2**31), 2**31 - 1, 0])
    for q in (some, some[:, ::2], some.t(), some[1:], some[:0]):
        out = torch.empty_like(q, dtype=torch.float32)
        assert CONVERSIONS.dequantise(q, bits, out) is out
        for made in (out, CONVERSIONS.dequantise(q, bits)):
            assert torch.equal(made, PLAIN.dequantise(q, bits))
        if q.numel():
            assert CONVERSIONS.largest(q) == PLAIN.largest(q)
    out = torch.empty(6, 50)
    place = CONVERSIONS.place_in(out)
    assert place is not None
    place.copy_(some)
    assert CONVERSIONS.dequantise(place, bits, out) is out
    assert torch.equal(out, PLAIN.dequantise(some, bits))
    assert CONVERSIONS.place_in(out.t()) is CONVERSIONS.place_in(out.double()) is None
    low = torch.tensor([[-32768, 5]], dtype=torch.int16)
    assert CONVERSIONS.largest(low) == 32768


def test_rows_are_added_in_their_order() -> None:
    """As PyTorch adds them, bit for bit, some of them often; whatever the layout."""
    torch.manual_seed(0)
    index, rows = torch.randint(0, 4, (50,)), torch.randn(50, 7)
    for change in (lambda t: t, lambda t: t.t().contiguous().t(), torch.Tensor.double):
        made = []
        for by in (CONVERSIONS, PLAIN):
            into = change(torch.zeros(5, 7))
            by.add_rows(into, index, change(rows))
            made.append(into)
        assert torch.equal(*made)
        assert made[0][:4].any()


@pytest.mark.rule("QNT-004")
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("wrong", [torch.nan, -torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_named(name: str, wrong: float) -> None:
    """Wherever it stands; large finite numbers are none."""
    good = VIEWS[name](HARD)
    CONVERSIONS.check_finite(a=good, b=None, c=HARD)
    assert CONVERSIONS.is_finite(good) == PLAIN.is_finite(good) == torch.tensor(True)
    bad = HARD.clone()
    bad[500], bad[2] = wrong, wrong
    with pytest.raises(RevRNNError, match=r"E_NONFINITE\] c:"):
        CONVERSIONS.check_finite(a=good, b=None, c=bad)
    if good.numel() and name != "of float16":
        assert CONVERSIONS.is_finite(VIEWS[name](bad)) == torch.tensor(False)
        with pytest.raises(RevRNNError, match=r"E_NONFINITE\] a:"):
            CONVERSIONS.check_finite(a=VIEWS[name](bad))


def test_gradients_do_not_depend_on_which_are_wanted() -> None:
    """Those of an input that wants none are not computed; batch first, all other bits stay."""
    torch.manual_seed(0)
    module = RevLSTM(5, 6, batch_first=True, chunk_size=3)
    x = torch.randn(2, 7, 5)
    made = []
    for wants in (True, False):
        own = x.clone().requires_grad_(wants)
        with engine("native"):
            module(own)[0].square().sum().backward()
        made.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
        module.zero_grad()
        assert (own.grad is not None) == wants
        if own.grad is not None:
            assert own.grad.shape == x.shape
            with engine("eager"):
                (wanted,) = torch.autograd.grad(module(own)[0].square().sum(), own)
            torch.testing.assert_close(own.grad, wanted, rtol=1e-4, atol=1e-6)
    assert len(made[0]) == 3
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_lookups_by_pieces_are_those_of_the_whole() -> None:
    """With two threads tokens are looked up by pieces: same bits, same errors, none for one."""
    torch.manual_seed(0)
    embed, tokens = nn.Embedding(30, 2000, padding_idx=3), torch.randint(0, 30, (5, 9))
    calls = list[int]()

    def counted(module: nn.Module, args: tuple[Tensor]) -> None:
        calls.append(args[0].numel())

    before = torch.get_num_threads()
    try:
        for threads, wanted in ((1, [45]), (2, [16, 16, 13])):
            torch.set_num_threads(threads)
            with torch.no_grad(), embed.register_forward_pre_hook(counted):
                made = chunks._looked_up(embed, tokens)
            assert torch.equal(made, embed.weight[tokens])
            assert calls == wanted
            calls.clear()
            with pytest.raises(IndexError), torch.no_grad():
                chunks._looked_up(embed, torch.full_like(tokens, 30))
    finally:
        torch.set_num_threads(before)


class _Arithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations on many numbers that are more than views, copies or room."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, and note it."""
        made = func(*args, **(kwargs or {}))
        large = any(isinstance(v, Tensor) and v.numel() >= 2**14 for v in (*args, made))
        name = func.overloadpacket.__name__
        plain = ("detach", "slice", "view", "_unsafe_view", "lift_fresh", "alias")
        if large and name not in plain and "empty" not in name:
            self.noted.append(name)
        return made


def test_a_call_starts_no_threads_of_pytorch() -> None:
    """They would keep cores busy for milliseconds, waiting: no large operation is PyTorch's."""
    module, x = RevLSTM(128, 64), torch.randn(16, 20, 128, requires_grad=True)
    with engine("native"), _Arithmetic() as forward:
        outputs, _ = module(x)
    assert forward.noted == []
    gradient = torch.ones_like(outputs)
    with engine("native"), _Arithmetic() as back:
        torch.autograd.grad(outputs, [x, *module.parameters()], gradient)
    assert back.noted == []
    with engine("eager"), _Arithmetic() as eager:
        module(x)
    assert "mul" in eager.noted
