"""Forked processes, which lack their parent's threads, give results or an error."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, init
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, RevLSTM, value_and_grad
from revrnn.torch_impl.native.threads import _region

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*"),
]
of_gnu = pytest.mark.skipif(not _region(), reason="OpenMP's threads begin anew by themselves")


@pytest.fixture
def used() -> Iterator[None]:
    """Use OpenMP's threads, as any large operation does."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(1 << 20).exp()
    yield
    torch.set_num_threads(before)


def succeeds_in_a_child(run: Callable[[], bool]) -> bool:
    """Return what a function does in a forked process, which may take 20 seconds."""
    child = os.fork()
    if not child:
        code = 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                code = 0 if run() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def trained(module: RevGRU | RevLSTM, x: torch.Tensor) -> tuple[bytes, float]:
    module.zero_grad()
    out, _ = module(x)
    out.square().mean().backward()
    of_weight = module.weight_ih_l0.grad
    assert of_weight is not None
    return out.detach().numpy().tobytes(), float(of_weight.abs().max())


def streamed(module: RevGRU | RevLSTM, x: torch.Tensor) -> float:
    torch.manual_seed(1)
    readout = LinearCrossEntropy(nn.Linear(module.hidden_size, 3))
    return float(value_and_grad(module, x, torch.ones(x.shape[:2], dtype=torch.long), readout).loss)


@of_gnu
@pytest.mark.parametrize("cell", [RevGRU, RevLSTM])
def test_a_child_computes_what_its_parent_does(used: None, cell: Any) -> None:
    """PyTorch's own operations would wait in it; a warning says what was done about it."""
    torch.manual_seed(0)
    module, x = cell(128, 128, dtype=torch.float32), torch.randn(48, 24, 128)
    outputs, gradient = trained(module, x)
    loss = streamed(module, x)

    def run() -> bool:
        with pytest.warns(RuntimeWarning, match="'spawn' or 'forkserver'"):
            own = trained(module, x)
        close = np.isclose([own[1], streamed(module, x)], [gradient, loss], rtol=1e-5).all()
        return bool(own[0] == outputs and close and torch.get_num_threads() == 1)

    assert succeeds_in_a_child(run)
    assert torch.get_num_threads() == 2


@of_gnu
def test_a_child_goes_back_over_a_graph_of_its_parent(used: None) -> None:
    module, x = RevGRU(128, 128), torch.full((48, 24, 128), 9.0, requires_grad=True)
    ones = torch.ones(48, 24, 128)
    out, _ = module(x)

    def run() -> bool:
        out.backward(ones)
        return module.weight_ih_l0.grad is not None

    assert succeeds_in_a_child(run)


@of_gnu
def test_a_child_takes_packed_and_streamed_input_first(used: None) -> None:
    """Whatever door it comes through."""
    module, x = RevGRU(128, 128), torch.randn(48, 24, 128)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((24,), 48))
    outputs, loss = module(packed)[0].data, streamed(module, x)
    assert succeeds_in_a_child(lambda: torch.equal(module(packed)[0].data, outputs))
    assert succeeds_in_a_child(lambda: abs(streamed(module, x) - loss) < 1e-5)


class Encoded(Dataset[torch.Tensor]):
    """Items that a recurrent module makes."""

    def __init__(self, module: RevGRU) -> None:
        self.module = module

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        with torch.no_grad():
            outputs: torch.Tensor = self.module(torch.full((48, 24, 128), float(index)))[0]
        return outputs


def test_workers_of_a_loader_encode(used: None) -> None:
    """They are forked by default, and have one thread already: no warning."""
    items = Encoded(RevGRU(128, 128))
    for index, item in enumerate(DataLoader(items, None, num_workers=1, timeout=20)):
        assert torch.equal(item, items[index])


def test_a_child_of_jax_is_refused() -> None:
    config = Config("revgru", input_size=2, hidden_size=4)
    params = init(jax.random.key(0), config)

    def refuses(call: Callable[[], Any]) -> bool:
        with pytest.raises(RevRNNError, match=r"process: got .*forked.*'spawn' or 'forkserver'"):
            call()
        return True

    x, key = jnp.zeros((3, 1, 2)), jax.random.key(0)
    assert succeeds_in_a_child(lambda: refuses(lambda: apply(params, x, config)))
    assert succeeds_in_a_child(lambda: refuses(lambda: init(key, config)))
