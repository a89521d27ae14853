"""Two processes find the gradients of one: DDP and FSDP2, as a call and by chunks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from revrnn import RevRNNError
from revrnn.torch_impl import (
    LinearCrossEntropy,
    RevGRU,
    average_gradients,
    encode,
    set_engine,
    value,
    value_and_grad,
)

X = torch.randn(20, 4, 3, generator=torch.Generator().manual_seed(1))
Y = torch.randn(20, 4, 6, generator=torch.Generator().manual_seed(2))


def model() -> RevGRU:
    torch.manual_seed(0)
    return RevGRU(3, 6, 2)


class Parts(nn.Module):
    """A network whose parts streaming is given one by one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.rnn, self.after = nn.Linear(3, 3), RevGRU(3, 6, 2), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.after(self.rnn(self.before(x))[0])
        return outputs * 1

    def stream(self, x: Tensor, y: Tensor) -> Tensor:
        def readout(outputs: Tensor, targets: Tensor) -> Tensor:
            return loss(self.after(outputs), targets)

        step = value_and_grad(self.rnn, x, y, readout, embed=self.before, chunk_size=8)
        measured = value(self.rnn, x, y, readout, embed=self.before, chunk_size=8)
        assert torch.allclose(step.loss, measured.loss, rtol=1e-5)
        return step.loss


OUT_OF_SIGHT: dict[str, nn.Module] = {}


def hidden(outputs: Tensor, targets: Tensor) -> Tensor:
    return loss(OUT_OF_SIGHT["linear"](outputs), targets)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return and forget whole gradients."""
    gradients = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        whole = getattr(parameter.grad, "full_tensor", lambda p=parameter: p.grad)()
        gradients[name.removeprefix("module.")] = whole.clone()
    module.zero_grad()
    return gradients


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def work(rank: int, folder: str) -> None:
    """Do the steps on half of the batch, as one of two processes."""
    from torch.distributed.device_mesh import init_device_mesh
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
    x, y, by_way = X[:, rows], Y[:, rows], {}
    parallel = nn.parallel.DistributedDataParallel(model())
    loss(parallel(x)[0], y).backward()  # type: ignore[no-untyped-call]
    by_way["DDP, called"] = gradients(parallel)
    outputs, state = parallel(x, parallel.module.initial_state(2))
    loss(outputs, y).backward()  # type: ignore[no-untyped-call]
    by_way["DDP, exact state"] = gradients(parallel)
    assert state.batch_size == 2
    value_and_grad(parallel.module, x, y, loss)
    average_gradients(parallel)
    by_way["DDP, by chunks"] = gradients(parallel)
    mesh = init_device_mesh("cpu", (2,))
    shard: Any = fully_shard
    sharded = shard(model(), mesh=mesh)
    for name in ("FSDP2, called", "FSDP2, called again"):
        loss(sharded(x)[0], y).backward()  # type: ignore[no-untyped-call]
        by_way[name] = gradients(sharded)
    value_and_grad(sharded, x, y, loss)
    by_way["FSDP2, by chunks"] = gradients(sharded)
    with torch.no_grad():
        sharded(x)  # which leaves parameters whole
    value_and_grad(sharded, x, y, loss)
    by_way["FSDP2, by chunks after a call"] = gradients(sharded)
    with pytest.raises(RevRNNError, match="sharded"):
        average_gradients(sharded)
    for name in ("module", "embed"):
        part: Any = {"module": RevGRU(3, 6, slice_size=2), "embed": nn.Linear(3, 3)}
        shard(part[name], mesh=mesh)
        with pytest.raises(RevRNNError, match=f"{name}: got sharded"):
            encode(part["module"], x, embed=part["embed"])
    by_way |= by_parts(x, y, mesh)
    by_way |= by_tensor_parallelism(mesh)
    refuse_flat_parameters(x, y)
    average_what_some_have(rank, x, y)
    fail_together(rank, x, y, mesh)
    torch.save(by_way, f"{folder}/{rank}.part")
    Path(f"{folder}/{rank}.part").rename(f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def by_parts(x: Tensor, y: Tensor, mesh: Any) -> dict[str, dict[str, Tensor]]:
    """Return gradients of a network in parts, sharded as a whole and part by part."""
    from torch.distributed.fsdp import fully_shard

    by_way = {}
    for way in ("parts, sharded as one", "parts, each sharded"):
        network = Parts()
        for part in network.children() if "each" in way else ():
            fully_shard(part, mesh=mesh)
        fully_shard(network, mesh=mesh)
        network.stream(x, y)
        by_way[way] = gradients(network)
        loss(network(x), y).backward()  # type: ignore[no-untyped-call]
        by_way[f"{way}, then called"] = gradients(network)
        network.stream(x, y)
        network.stream(x, y)
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad /= 2
        by_way[f"{way}, two gradients"] = gradients(network)
        OUT_OF_SIGHT["linear"] = network.after
        with pytest.raises(RevRNNError, match="hides its sharded module"):
            value_and_grad(network.rnn, x, y, hidden, embed=network.before)
        assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(ZeroDivisionError):
        value_and_grad(network.rnn, x, y, lambda *_: 1 / 0, embed=network.before)  # type: ignore[arg-type]
    network.stream(x, y)  # an error leaves parameters sharded and adds no gradient
    by_way["parts, after an error"] = gradients(network)
    return by_way


def by_tensor_parallelism(mesh: Any) -> dict[str, dict[str, Tensor]]:
    """Return gradients of a network whose last layer is cut by its features, of all rows."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    network = Parts()
    parallel: Any = ColwiseParallel(output_layouts=Replicate())
    parallelize_module(network, mesh, {"after": parallel})
    network.stream(X, Y)
    return {"parts, one in tensor parallelism": gradients(network)}


def average_what_some_have(rank: int, x: Tensor, y: Tensor) -> None:
    """A gradient that one process has counts; one that none has stays None, as with DDP."""
    network, unused = Parts(), nn.Linear(2, 2)
    rows: Any = nn.Embedding(4, 3, sparse=True)
    if rank == 0:
        network.stream(x, y)
        rows(torch.tensor([1])).sum().backward()
    weight: Any = network.after.weight
    alone = None if rank else weight.grad.clone()
    average_gradients(network, unused, rows, group=torch.distributed.group.WORLD)
    averaged, sparse = weight.grad, rows.weight.grad
    assert averaged.any() if alone is None else torch.equal(averaged * 2, alone)
    assert sparse.is_sparse
    assert sparse.to_dense()[1].eq(0.5).all()
    assert unused.weight.grad is None
    with pytest.raises(RevRNNError, match="modules: got another call, or other parameters"):
        average_gradients(*([network, rows][rank:]))
    parallel = nn.parallel.DistributedDataParallel(nn.Linear(6, 6))
    with pytest.raises(RevRNNError, match="join"), parallel.join():
        average_gradients(parallel)
    first: Any = torch.distributed.new_group([0])
    for group in (3, first)[: 1 + rank]:
        with pytest.raises(RevRNNError, match="group: got"):
            average_gradients(network, group=group)
    assert torch.equal(averaged, weight.grad)
    # A function may refer to a wrapped module, but not call it.
    value_and_grad(network.rnn, x, y, lambda h, y: loss(parallel.module(h), y))
    with pytest.raises(RevRNNError, match="embed, readout: got DistributedDataParallel"):
        value_and_grad(network.rnn, x, y, lambda h, y: loss(parallel(h), y))


def fail_together(rank: int, x: Tensor, y: Tensor, mesh: Any) -> None:
    """What fails in one process fails in all, and leaves gradients of none."""
    from torch.distributed.fsdp import fully_shard

    network, plain, beside, by = Parts(), Parts(), nn.Linear(6, 6), 1 if rank else torch.nan
    for part in network.children():
        fully_shard(part, mesh=mesh)
    with pytest.raises(RevRNNError, match="another process" if rank else "NaN"):
        value_and_grad(network.rnn, x, y, lambda h, y: by * loss(network.after(beside(h)), y))
    assert all(p.grad is None for p in [*network.parameters(), *beside.parameters()])
    with pytest.raises(RevRNNError, match="other parameters than in another process"):
        value_and_grad(network.rnn, x, y, loss, embed=(network if rank else plain).before)
    with pytest.raises(RevRNNError, match="got another call, or"):
        (value if rank else value_and_grad)(network.rnn, x, y, loss, embed=network.before)

    def frozen_in_one(outputs: Tensor, targets: Tensor) -> Tensor:
        made = network.after(outputs)
        return loss(outputs if rank else made, targets)

    value_and_grad(network.rnn, x, y, frozen_in_one, embed=network.before)
    plain.stream(X[:, :2], Y[:, :2])
    assert torch.allclose(gradients(network)["after.bias"] * 2, gradients(plain)["after.bias"])


def refuse_flat_parameters(x: Tensor, y: Tensor) -> None:
    """FSDP1 works when called; by chunks it would see neither parameters nor gradients."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    wrapper: Any = FullyShardedDataParallel
    wrapped = wrapper(Parts(), use_orig_params=True, device_id=torch.device("cpu"))
    loss(wrapped(x), y).backward()  # type: ignore[no-untyped-call]
    inner, plain = wrapped.module, Parts()
    with pytest.raises(RevRNNError, match="parameters of FullyShardedDataParallel"):
        inner.stream(x, y)
    with pytest.raises(RevRNNError, match="parameters of FullyShardedDataParallel"):
        value(inner.rnn, x, y, loss)
    with pytest.raises(RevRNNError, match="parameters of FullyShardedDataParallel"):
        value_and_grad(plain.rnn, x, y, LinearCrossEntropy(inner.after), embed=plain.before)
    with pytest.raises(RevRNNError, match="sharded"):
        average_gradients(wrapped)
    with wrapper.summon_full_params(wrapped):
        whole = value(inner.rnn, x, y, loss, embed=inner.before)
    right = value(plain.rnn, x, y, loss, embed=plain.before)
    assert torch.equal(whole.loss, right.loss)


@pytest.mark.parametrize("kind", [nn.parallel.DistributedDataParallel, nn.DataParallel])
def test_what_wraps_a_module_is_not_taken(kind: type[nn.Module]) -> None:
    def wrap(module: nn.Module) -> Any:
        wrapped = kind.__new__(kind)  # no processes are needed to say no
        nn.Module.__init__(wrapped)
        wrapped.module = module
        return wrapped

    x, y = torch.zeros(4, 2, 3), torch.zeros(4, 2, dtype=torch.int64)
    linear, rnn = nn.Linear(6, 6), model()
    wrapped = wrap(linear)
    calls: dict[str, Callable[[], Any]] = {
        "module": lambda: value_and_grad(wrap(rnn), x, y, LinearCrossEntropy(linear)),
        "embed": lambda: value_and_grad(
            rnn, x, y, LinearCrossEntropy(linear), embed=wrap(nn.Linear(3, 3))
        ),
        "readout": lambda: value_and_grad(rnn, x, y, wrapped),
        "readout.linear": lambda: value(rnn, x, y, LinearCrossEntropy(wrapped)),
    }
    for name, call in calls.items():
        with pytest.raises(RevRNNError, match=rf"\] {name}: got {kind.__name__}.*\.module"):
            call()


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
    module, network = model(), Parts()
    loss(module(X)[0], Y).backward()  # type: ignore[no-untyped-call]
    loss(network(X), Y).backward()  # type: ignore[no-untyped-call]
    right = {"parts": gradients(network), "": gradients(module)}
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for way, first in both[0].items():
        wanted = right["parts" * way.startswith("parts")]
        assert set(first) == set(wanted), way
        for name, gradient in wanted.items():
            assert torch.equal(first[name], both[1][way][name]), (way, name)
            assert torch.allclose(first[name], gradient, rtol=1e-4, atol=1e-7), (way, name)
