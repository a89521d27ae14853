"""A sequence of very many steps, forward and back, in PyTorch and JAX; memory must stay flat."""

from __future__ import annotations

import gc
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import torch
from torch import nn

from revrnn import Config
from revrnn.jax_impl import check, init, initial_state, value_and_grad
from revrnn.torch_impl import RevGRU, RevLSTM, engine
from revrnn.torch_impl import value_and_grad as torch_value_and_grad

CELLS: Final = ("revgru", "revlstm")
CLASSES, FEATURES, HIDDEN, ROWS, CHUNK = 11, 4, 8, 2, 50
# Bytes beside the buffer by which a run over ten times the steps may be larger.
ROOM: Final = 24 << 20
Facts = dict[str, Any]


class Peak:
    """Watches how much memory this process takes while a block runs."""

    def __enter__(self) -> Peak:
        """Begin."""
        gc.collect()
        self.process, self.going = psutil.Process(), True
        self.begin = self.most = int(self.process.memory_info().rss)
        self.seconds = -time.monotonic()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.going:
            self.most = max(self.most, int(self.process.memory_info().rss))
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        """End."""
        self.going = False
        self.thread.join()
        self.seconds += time.monotonic()

    @property
    def more(self) -> int:
        """How much the peak was above the beginning, bytes."""
        return self.most - self.begin


def long_sequences(steps: int, seed: int) -> list[Facts]:
    """Run all cells in both frameworks over a tenth of the steps and over all of them.

    Raises:
        AssertionError: if memory grows with the steps by more than the buffer, or the frameworks'
            final states differ.
    """
    made = []
    for cell in CELLS:
        config = Config(cell, FEATURES, HIDDEN, max_forget_bits=3)
        rng = np.random.default_rng(seed)
        tokens = rng.integers(CLASSES, size=(steps + 1, ROWS))
        values = [rng.normal(size=s).astype("f") for s in ((CLASSES, FEATURES), (HIDDEN, CLASSES))]
        params = {n: np.array(v) for n, v in init(jax.random.key(seed % 2**31), config).items()}
        ends: dict[int, set[str]] = {}
        for name, (make, part) in RUNS.items():
            run, whole = make(config, params, values), steps // part
            short, facts = [_measured(run, tokens, many) for many in (whole // 10, whole)]
            facts |= {"cell": cell, "framework": name, "peak_of_a_tenth": short["peak"]}
            # The buffer, which is to grow: 3 bits a unit and operation at most, in two copies.
            buffer = 2 * whole * ROWS * HIDDEN * (2 if cell == "revlstm" else 1)
            facts["allowed"] = short["peak"] + buffer + ROOM
            assert facts["peak"] <= facts["allowed"], facts
            for one in (short, facts):
                ends.setdefault(one["steps"], set()).add(one["digest"])
            made.append(facts)
        assert all(len(digests) == 1 for digests in ends.values()), made
    return made


def _measured(run: Callable[[Any, int], tuple[Any, float]], tokens: Any, steps: int) -> Facts:
    run(tokens[: CHUNK * 2 + 1], 0)
    ready = run(tokens[: steps + 1], -1)[0]  # compiled, but not run
    with Peak() as peak:
        state, loss = run(tokens[: steps + 1], ready)
    digest = hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in state)).hexdigest()
    rounded = {"seconds": round(peak.seconds, 1), "loss": loss}
    return {"steps": steps, "peak": peak.more, "digest": digest} | rounded


def _torch(name: str) -> Callable[..., Any]:
    def make(config: Config, params: Any, values: Any) -> Callable[[Any, Any], Any]:
        kind = RevGRU if config.cell == "revgru" else RevLSTM
        rnn = kind(FEATURES, HIDDEN, max_forget_bits=3, chunk_size=CHUNK)
        rnn.load_state_dict({n: torch.from_numpy(v) for n, v in params.items()}, strict=False)
        embed = nn.Embedding(CLASSES, FEATURES, _weight=torch.from_numpy(values[0]))
        weight = nn.Parameter(torch.from_numpy(values[1]))

        def readout(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            logits = outputs @ weight
            return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

        def run(tokens: Any, ready: Any) -> Any:
            if ready == -1:
                return None, 0.0
            given = torch.from_numpy(tokens)
            with engine(name):
                step = torch_value_and_grad(rnn, given[:-1], given[1:], readout, embed=embed)
            parts = step.state.tensors().values()
            return [part.numpy().astype(np.int64) for part in parts], float(step.loss)

        return run

    return make


def _jax(config: Config, params: Any, values: Any) -> Callable[[Any, Any], Any]:
    outer = [jnp.asarray(value) for value in values]

    def readout(outer: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(outputs @ outer[1])
        return -jnp.take_along_axis(logits, targets[..., None], -1).mean()

    @jax.jit
    def train(params: Any, outer: Any, tokens: jax.Array) -> Any:
        return value_and_grad(
            params,
            outer,
            tokens[:-1],
            tokens[1:],
            config,
            embed=lambda outer, x: outer[0][x],
            readout=readout,
            state=initial_state(config, ROWS),
            chunk_size=CHUNK,
        )

    def run(tokens: Any, ready: Any) -> Any:
        given = jnp.asarray(tokens, jnp.int32)
        if ready == -1:
            return train.lower(params, outer, given).compile(), 0.0
        step = (train if ready == 0 else ready)(params, outer, given)
        check(step.status)
        parts = [part for part in step.state[:3] if part is not None]
        return [np.asarray(part).astype(np.int64) for part in parts], float(step.loss)

    return run


# How each is made, and which part of the steps it takes: the eager engine takes milliseconds each.
RUNS: Final[dict[str, tuple[Callable[..., Any], int]]] = {
    "torch-native": (_torch("native"), 1),
    "torch-eager": (_torch("eager"), 10),
    "jax": (_jax, 1),
}
