"""The exact product, by signed bytes where a check shows it exact, else in float64 (PROD)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Final, Literal

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError, check_one_of
from revrnn.formats import OPERAND_MAX

from .quantise import blocks

Method = Literal["auto", "int8", "float64"]

# Longest block whose sums of two byte products fit int32 (PROD-003).
_BLOCK: Final = 2**16 - 8
# Below this many weights the float64 product is faster than slicing.
_WORTH_SLICING: Final = 2**15

# Rows multiplied at a time: the four partial sums should stay in a processor's cache.
_ROWS: Final = 128

_method: Method = "auto"


def set_product_method(method: Method) -> None:
    """Choose how exact products are computed; the results do not depend on it (PROD-003).

    Args:
        method: ``"int8"`` by signed-byte slices (an error if the self-check fails on a device),
            ``"float64"``, or ``"auto"``, which takes bytes for large weights where they are right
            and, measured once per process and device, faster.
    """
    global _method
    check_one_of("method", method, ("auto", "int8", "float64"))
    _method = method


def chosen_method() -> Method:
    """Return what was chosen."""
    return _method


@contextmanager
def product_method(method: Method) -> Iterator[None]:
    """Choose a method for the time of a ``with`` block."""
    before = _method
    set_product_method(method)
    try:
        yield
    finally:
        set_product_method(before)


def split(a: Tensor) -> Tensor:
    """Return high signed bytes above low ones, int8 ``[2M, K]``, of ``[M, K]`` (FMT-003)."""
    bytes_of = torch.empty((2, *a.shape), dtype=torch.int8, device=a.device)
    bytes_of[0] = (a + 128) >> 8  # at most 32640, also in int16
    bytes_of[1] = a.to(torch.int8)  # reduced modulo 2^8, which is what is left of the high byte
    return bytes_of.flatten(0, 1)


class Weight:
    """A weight matrix ``[N, K]``, int16, made ready for many products on its device."""

    def __init__(self, w: Tensor) -> None:
        """Prepare ``w``, whose values are in ±32512."""
        self._prepare(w, _use_bytes(w))

    @classmethod
    def _by(cls, w: Tensor, by_bytes: bool) -> Weight:
        """Prepare ``w`` for products by bytes, or in float64."""
        made = cls.__new__(cls)
        made._prepare(w, by_bytes)
        return made

    def _prepare(self, w: Tensor, by_bytes: bool) -> None:
        self.outputs, self.length = w.shape
        self.by_bytes = by_bytes
        if self.by_bytes:
            self.blocks = [_byte_block(block) for block in torch.split(w, _BLOCK, 1)]
        else:
            self.transposed = w.to(torch.float64).t().contiguous()

    def product(self, a: Tensor) -> Tensor:
        """Return ``Σ_k a[m, k]·w[n, k]``, int64 ``[M, N]``, exactly (PROD-001)."""
        if len(a) > _ROWS:
            out = torch.empty((len(a), self.outputs), dtype=torch.int64, device=a.device)
            for begin in range(0, len(a), _ROWS):
                rows = slice(begin, begin + _ROWS)
                out[rows] = self.product(a[rows])
            return out
        if not self.by_bytes:
            return (a.to(torch.float64) @ self.transposed).to(torch.int64)
        if len(self.blocks) == 1:
            return self._block_product(a, self.blocks[0])
        parts = zip(torch.split(a, _BLOCK, 1), self.blocks, strict=True)
        return torch.stack([self._block_product(part, block) for part, block in parts]).sum(0)

    def _block_product(self, a: Tensor, block: Tensor) -> Tensor:
        rows, n = len(a), self.outputs
        stacked = split(a)
        # CUDA's kernel needs more than 16 rows and a length that is a multiple of 8.
        missing = max(0, 17 - 2 * rows)
        if block.shape[0] != stacked.shape[1] or missing:
            pad = (0, block.shape[0] - stacked.shape[1], 0, missing)
            stacked = torch.nn.functional.pad(stacked, pad)
        sums = torch._int_mm(stacked, block)
        width = block.shape[1] // 2
        hh, hl = sums[:rows, :n], sums[:rows, width : width + n]
        lh, ll = sums[rows : 2 * rows, :n], sums[rows : 2 * rows, width : width + n]
        # PROD-003; the middle sum fits int32 by the choice of _BLOCK.
        total = torch.add(ll.to(torch.int64), hl + lh, alpha=2**8)
        return total.add_(hh, alpha=2**16)


def _byte_block(w: Tensor) -> Tensor:
    """Return ``[K', 2·N']`` int8, high bytes beside low ones, both lengths padded to 8.

    It is stored by columns, the fast layout for the kernels of CPUs and GPUs.
    """
    n, k = w.shape
    if n % 8 or k % 8:
        w = torch.nn.functional.pad(w, (0, -k % 8, 0, -n % 8))
    if w.device.type != "cpu":
        return split(w).t()
    both, work = w.new_empty((2, *w.shape), dtype=torch.int8), w.new_empty(0)
    for rows in blocks(w):  # as split does, within a processor's cache
        part = w[rows]
        work = work if work.shape == part.shape else torch.empty_like(part)
        both[0, rows] = torch.add(part, 128, out=work).__irshift__(8)
        both[1, rows] = part
    return both.flatten(0, 1).t()


def product(a: Tensor, w: Tensor) -> Tensor:
    """Return the exact product of int16 ``a`` ``[M, K]`` and ``w`` ``[N, K]``, int64 ``[M, N]``."""
    return Weight(w).product(a)


def method_for(config: Config, device: torch.device) -> str:
    """Describe how the products of a stack's layers are computed."""
    names = []
    for size in (config.layer_input_size(0), config.group_size):
        w = torch.empty(1, dtype=torch.int16, device=device)
        names.append("int8" if _use_bytes(w.expand(config.num_gates * size)) else "float64")
    return f"{names[0]} (inputs), {names[1]} (recurrent)"


def _use_bytes(w: Tensor) -> bool:
    if _method == "float64" or (_method == "auto" and w.numel() < _WORTH_SLICING):
        return False
    right = _bytes_are_exact(w.device.type, w.device.index or 0)
    if _method == "int8" and not right:
        raise RevRNNError(
            "E_UNSUPPORTED", "method", "'int8' on a device that gets it wrong", "'float64'"
        )
    if _method == "auto" and right:
        return _bytes_are_faster(w.device.type, w.device.index or 0)
    return right


@cache
def _bytes_are_faster(kind: str, index: int) -> bool:
    """Time both ways once per process and device: an exact kernel may be 50 times too slow."""
    device = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    a = torch.ones((20, 512), dtype=torch.int16, device=device)
    w = torch.ones((512, 512), dtype=torch.int16, device=device)
    least = {}
    for by_bytes in (True, False):
        weight = Weight._by(w, by_bytes)
        times = []
        for _ in range(4):  # the first warms up
            _wait(device)
            start = time.perf_counter()
            weight.product(a)
            _wait(device)
            times.append(time.perf_counter() - start)
        least[by_bytes] = min(times[1:])
    return least[True] < least[False]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def _bytes_are_exact(kind: str, index: int) -> bool:
    """Compare byte products with int64 sums at extreme operands, once per process and device.

    Kernels for processors without wide dot products may saturate their 16-bit intermediates.
    """
    device = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    ends = [OPERAND_MAX, -OPERAND_MAX, 32384, -32384, 127, -128, 0, 1]
    extremes = torch.tensor(ends, dtype=torch.int16, device="cpu")
    draw = partial(
        torch.randint, len(ends), generator=torch.Generator().manual_seed(0), device="cpu"
    )
    try:
        for rows, length, outputs in ((1, 8, 8), (3, 67, 5), (17, 1225, 64), (40, 4096, 40)):
            a, w = (extremes[draw(shape)] for shape in ((rows, length), (outputs, length)))
            a[0], w[0] = OPERAND_MAX, OPERAND_MAX
            w[1], w[2] = 32384, -OPERAND_MAX
            wanted = a.to(torch.int64) @ w.to(torch.int64).t()
            weight = Weight._by(w.to(device), True)
            if not torch.equal(weight.product(a.to(device)).cpu(), wanted):
                return False
    except RuntimeError:  # no such kernel on this device
        return False
    return True
