"""The variants of a training step in PyTorch.

Two kinds of work: ``layer``, the recurrent stack alone on float inputs that want a gradient;
``lm``, a language model of an embedding, the stack and a linear readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from revrnn.experiments import process_memory
from revrnn.plan import CHUNK_SIZE
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, RevLSTM, plan, set_engine, value_and_grad
from revrnn.torch_impl.native import memory

MODULES: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "revgru": RevGRU, "revlstm": RevLSTM}
PEERS = ("plain", "checkpointed")
Options = dict[str, Any]


class Model(nn.Module):
    """The recurrent stack; for ``lm`` between an embedding and a readout."""

    def __init__(self, options: Options) -> None:
        """Make the variant's stack with embedding and readout."""
        super().__init__()
        inputs, hidden = options["inputs"], options["hidden"]
        kind, more = options["cell"], {}
        if options["variant"] not in PEERS:
            kind = "rev" + kind
            more = {"max_forget_bits": options["bits"], "chunk_size": options["chunk"]}
        self.rnn = MODULES[kind](inputs, hidden, num_layers=options["layers"], **more)
        if options["work"] == "lm":
            self.embed = nn.Embedding(options["vocabulary"], inputs)
            self.readout = nn.Linear(hidden, options["vocabulary"])

    def inputs(self, data: Tensor) -> Tensor:
        """Return what the stack reads."""
        x: Tensor = self.embed(data) if hasattr(self, "embed") else data
        return x

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of some steps."""
        if not hasattr(self, "readout"):
            return outputs.square().mean()
        logits = self.readout(outputs)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def whole(model: Model, data: Tensor, targets: Tensor) -> Tensor:
    """Do a step as everybody does."""
    outputs, _ = model.rnn(model.inputs(data))
    loss = model.loss(outputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def checkpointed(model: Model, data: Tensor, targets: Tensor) -> Tensor:
    """Do a step under ``torch.utils.checkpoint``, √T segments with embedding and readout."""
    steps = len(data)
    size = math.ceil(math.sqrt(steps))
    lstm = isinstance(model.rnn, nn.LSTM)

    def segment(data: Tensor, targets: Tensor, *state: Tensor) -> Any:
        given = None if not state else (state if lstm else state[0])
        outputs, last = model.rnn(model.inputs(data), given)
        loss = model.loss(outputs, targets) * (len(data) / steps)
        return (loss, *last) if lstm else (loss, last)

    total: Any = 0.0
    state: tuple[Tensor, ...] = ()
    for begin in range(0, steps, size):
        part = slice(begin, begin + size)
        loss, *last = checkpoint(segment, data[part], targets[part], *state, use_reentrant=False)
        state, total = tuple(last), total + loss
    total.backward()
    result: Tensor = total.detach()
    return result


def streaming(model: Model, data: Tensor, targets: Tensor, every: int | None = None) -> Tensor:
    """Do a step by reversal, chunk by chunk."""
    readout = LinearCrossEntropy(model.readout)
    result = value_and_grad(
        model.rnn, data, targets, readout, embed=model.embed, checkpoint_every=every
    )
    return result.loss


def build(options: Options) -> tuple[Callable[[], float], dict[str, Any]]:
    """Return a function that does a step and returns its loss, and facts about the variant."""
    torch.manual_seed(0)
    torch.set_num_threads(options["threads"])
    set_engine(options.get("engine") or "auto")
    device = torch.device(options["device"])
    model = Model(options).to(device)
    steps, rows = options["steps"], options["batch"]
    data, targets = data_of(options, device)
    every = None
    if options["variant"] == "hybrid":
        every = plan(model.rnn.config, steps, rows, chunk_size=options["chunk"]).checkpoint_every
    ways: dict[str, Callable[..., Tensor]] = {
        "plain": whole,
        "drop_in": whole,
        "checkpointed": checkpointed,
        "streaming": streaming,
        "hybrid": partial(streaming, every=every),
    }
    do = ways[options["variant"]]

    def step(steps: int = steps) -> float:
        loss = float(do(model, data[:steps], targets[:steps]))
        for parameter in (data, *model.parameters()):
            parameter.grad = None
        return loss

    # Every code path has been taken before measuring begins.
    step(min(steps, 2 * (options["chunk"] or CHUNK_SIZE)))
    wanted = [tensor for tensor in (data, *model.parameters()) if tensor.requires_grad]
    gradient_bytes = sum(tensor.numel() * tensor.element_size() for tensor in wanted)
    return step, {"checkpoint_every": every, "gradient_bytes": gradient_bytes}


def data_of(options: Options, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return inputs and targets; the inputs of ``layer`` want a gradient."""
    steps, rows = options["steps"], options["batch"]
    if options["work"] == "lm":
        tokens = torch.randint(options["vocabulary"], (steps + 1, rows), device=device)
        return tokens[:-1], tokens[1:]
    x = torch.randn(steps, rows, options["inputs"], device=device, requires_grad=True)
    return x, torch.zeros(steps, rows, device=device)


def reset_peak(options: Options) -> int:
    """Forget the peak so far; return the bytes in use."""
    if options["device"] != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    memory.let_go()  # else what a step takes of it would not show
    return process_memory.reset_peak()


def peak(options: Options) -> int:
    """Return the most bytes that were in use."""
    if options["device"] != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return process_memory.peak()
