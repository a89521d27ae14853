"""Two processes find the gradients of one: DDP and FSDP2, as a call and by chunks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, average_gradients, set_engine, value_and_grad

X = torch.randn(20, 4, 3, generator=torch.Generator().manual_seed(1))
Y = torch.randn(20, 4, 6, generator=torch.Generator().manual_seed(2))


def model() -> RevGRU:
    torch.manual_seed(0)
    return RevGRU(3, 6, 2)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return and forget whole gradients."""
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        whole = getattr(parameter.grad, "full_tensor", lambda p=parameter: p.grad)()
        found[name.removeprefix("module.")] = whole.clone()
    module.zero_grad()
    return found


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def work(rank: int, folder: str) -> None:
    """Do the steps on half of the batch, as one of two processes."""
    from torch.distributed.fsdp import fully_shard

    set_engine("eager")  # nothing to compile
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    rows = slice(2 * rank, 2 * rank + 2)
    x, y, found = X[:, rows], Y[:, rows], {}
    parallel = nn.parallel.DistributedDataParallel(model())
    loss(parallel(x)[0], y).backward()
    found["DDP, called"] = gradients(parallel)
    outputs, state = parallel(x, parallel.module.initial_state(2))
    loss(outputs, y).backward()
    found["DDP, exact state"] = gradients(parallel)
    assert state.batch_size == 2
    value_and_grad(parallel.module, x, y, loss)
    average_gradients(parallel)
    found["DDP, by chunks"] = gradients(parallel)
    sharded = fully_shard(model(), mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    for name in ("FSDP2, called", "FSDP2, called again"):
        loss(sharded(x)[0], y).backward()
        found[name] = gradients(sharded)
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED.*sharded"):
        value_and_grad(sharded, x, y, loss)
    with pytest.raises(RevRNNError, match="sharded"):
        average_gradients(sharded)
    torch.save(found, f"{folder}/{rank}.part")
    Path(f"{folder}/{rank}.part").rename(f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="built without distribution")
def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    # What counts is what they wrote; how they end is PyTorch's affair.
    context = torch.multiprocessing.start_processes(  # type: ignore[attr-defined, no-untyped-call]
        work, (str(tmp_path),), nprocs=2, join=False, start_method="spawn"
    )
    assert context is not None
    try:
        for _ in range(2):  # each call sees one process end
            context.join(timeout=90)
    finally:
        for process in context.processes:
            process.kill()
    module = model()
    loss(module(X)[0], Y).backward()
    wanted = gradients(module)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for way, first in both[0].items():
        assert set(first) == set(wanted), way
        for name, value in wanted.items():
            assert torch.equal(first[name], both[1][way][name]), (way, name)
            assert torch.allclose(first[name], value, rtol=1e-4, atol=1e-7), (way, name)
