"""Conversions of tensors so large that they are handled in parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from revrnn.evaluation import load
from revrnn.formats import Formats
from revrnn.torch_impl.quantise import dequantise, parts, quantise

# More than fit one part, whatever the number of threads.
SHAPE = (3, 2, 2**16 + 5)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """Return tensors of the same numbers in all layouts of memory that are cut in other ways."""
    wide = torch.cat([x, x], -1)
    return {"whole": x, "a half of each row": wide[..., : x.shape[-1]], "turned": x.mT.clone().mT}


@pytest.mark.rule("QNT-001", "QNT-006")
def test_large_tensors_are_converted_as_the_oracle_says(threads: int) -> None:
    formats = Formats()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * 4
    asked = {"kind": "operand", "x": x.numpy(), "formats": formats}
    operands = load("numpy").evaluate("quantise", asked)["q"]
    again = operands.astype(np.float32) / np.float32(2**formats.operand_bits)
    for name, like in layouts(x).items():
        q = quantise("operand", like, formats)
        assert np.array_equal(q.numpy(), operands), (name, threads)
        back = torch.empty(SHAPE)
        for out in (None, back, torch.empty_like(like)):
            floats = dequantise(layouts(q)[name], formats.operand_bits, out)
            assert np.array_equal(floats.numpy(), again), (name, threads)


@pytest.mark.parametrize("name", ["whole", "a half of each row", "turned"])
def test_parts_are_small_and_have_every_element_once(name: str, threads: int) -> None:
    x = layouts(torch.zeros(SHAPE))[name]
    sizes = []
    for part, same in parts(x, x):
        part += 1
        assert part.data_ptr() == same.data_ptr()
        sizes.append(part.numel())
    assert bool((x == 1).all())
    assert max(sizes) <= 2**18
