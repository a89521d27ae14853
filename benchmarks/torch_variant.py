"""One training step of a language model, one variant, in a process of its own.

``python benchmarks/torch_variant.py '{"cell": "gru", "variant": "plain", …}'`` prints one line of
JSON: peak memory above parameters, gradients and optimiser, and the time of a step.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from revrnn.experiments import process_memory
from revrnn.torch_impl import (
    LinearCrossEntropy,
    RevGRU,
    RevLSTM,
    plan,
    set_compiled_steps,
    value_and_grad,
)

MODULES: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "revgru": RevGRU, "revlstm": RevLSTM}


class Model(nn.Module):
    """Embedding, recurrent layer, readout."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Make the variant's recurrent layer between an embedding and a linear readout."""
        super().__init__()
        vocabulary, hidden = options["vocabulary"], options["hidden"]
        self.embed = nn.Embedding(vocabulary, options["embedding"])
        kind, more = options["cell"], {}
        if options["variant"] != "plain" and options["variant"] != "checkpointed":
            kind = "rev" + kind
            more = {"max_forget_bits": options["bits"], "chunk_size": options["chunk"]}
        self.rnn = MODULES[kind](options["embedding"], hidden, **more)
        self.readout = nn.Linear(hidden, vocabulary)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of some steps."""
        logits = self.readout(outputs)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def plain(model: Model, tokens: Tensor, targets: Tensor) -> Tensor:
    """Do a step as everybody does."""
    outputs, _ = model.rnn(model.embed(tokens))
    loss: Any = model.loss(outputs, targets)
    loss.backward()
    found: Tensor = loss.detach()
    return found


def checkpointed(model: Model, tokens: Tensor, targets: Tensor) -> Tensor:
    """Do a step under ``torch.utils.checkpoint``, √T segments, the readout inside."""
    steps = len(tokens)
    size = math.ceil(math.sqrt(steps))
    lstm = isinstance(model.rnn, nn.LSTM)

    def segment(tokens: Tensor, targets: Tensor, *state: Tensor) -> Any:
        given = None if not state else (state if lstm else state[0])
        outputs, last = model.rnn(model.embed(tokens), given)
        loss = model.loss(outputs, targets) * (len(tokens) / steps)
        return (loss, *last) if lstm else (loss, last)

    total: Any = 0.0
    state: tuple[Tensor, ...] = ()
    for begin in range(0, steps, size):
        part = slice(begin, begin + size)
        loss, *last = checkpoint(segment, tokens[part], targets[part], *state, use_reentrant=False)
        state, total = tuple(last), total + loss
    total.backward()
    found: Tensor = total.detach()
    return found


def streaming(model: Model, tokens: Tensor, targets: Tensor, every: int | None = None) -> Tensor:
    """Do a step by reversal, chunk by chunk."""
    readout = LinearCrossEntropy(model.readout)
    found = value_and_grad(
        model.rnn, tokens, targets, readout, embed=model.embed, checkpoint_every=every
    )
    return found.loss


def drop_in(model: Model, tokens: Tensor, targets: Tensor) -> Tensor:
    """Do a step by reversal, called as ``nn.GRU``."""
    return plain(model, tokens, targets)


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Measure one variant."""
    torch.manual_seed(0)
    device = torch.device(options.get("device", "cpu"))
    set_compiled_steps(bool(options.get("compiled")))
    model = Model(options).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    steps, rows = options["steps"], options["batch"]
    tokens = torch.randint(options["vocabulary"], (steps + 1, rows), device=device)
    every = None
    if options["variant"] == "hybrid":
        every = plan(model.rnn.config, steps, rows, chunk_size=options["chunk"]).checkpoint_every
    step: Callable[..., Tensor] = {
        "plain": plain,
        "checkpointed": checkpointed,
        "drop_in": drop_in,
        "streaming": streaming,
        "hybrid": lambda model, tokens, targets: streaming(model, tokens, targets, every),
    }[options["variant"]]
    # Parameters and gradients exist, and every code path has been taken, before measuring begins.
    short = min(steps, 2 * options["chunk"])
    step(model, tokens[:short], tokens[1 : short + 1])
    optimiser.zero_grad(set_to_none=False)
    if options.get("limit_mb"):
        process_memory.limit(options["limit_mb"] * 2**20)
    before = reset_peak(device)
    times, loss = [], torch.zeros(())
    for _ in range(options["repeats"]):
        start = time.perf_counter()
        loss = step(model, tokens[:-1], tokens[1:])
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        optimiser.zero_grad(set_to_none=False)
    found = {"seconds": min(times), "peak_bytes": peak(device) - before, "loss": float(loss)}
    return {**options, **found, "checkpoint_every": every}


def reset_peak(device: torch.device) -> int:
    """Forget the peak so far; return the bytes in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return process_memory.reset_peak()


def peak(device: torch.device) -> int:
    """Return the most bytes that were in use."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else process_memory.peak()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    try:
        print(json.dumps(run(given)))
    except RuntimeError as error:  # what PyTorch raises when memory runs out
        if not any(sign in str(error) for sign in ("memory", "bad_alloc")):
            raise
        print(json.dumps(given | {"out_of_memory": True}))
