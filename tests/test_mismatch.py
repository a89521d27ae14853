"""The command that says where a mismatch begins names the right step, quantity and rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from revrnn.config import Config
from revrnn.conformance.adapters import InProcess, Question
from revrnn.conformance.asking import Mismatch
from revrnn.conformance.contents import Shape, reversal_arguments, sequence_arguments
from revrnn.conformance.mismatch import first_mismatch, main
from revrnn.evaluation import load, one_result
from revrnn.numpy_ref import activations, buffer, cells, evaluate, quantise, sequence
from revrnn.wire import dump, encode

CONFIGS = {
    "gru": Config("revgru", 3, 6, num_layers=2, max_forget_bits=3, slice_size=2),
    "lstm": Config("revlstm", 3, 4, num_layers=2, buffer="wordlist"),
    "keeps": Config("revlstm", 3, 4, forgetting=False),
}


def arguments_of(config: Config) -> dict[str, Any]:
    generator = np.random.default_rng(9)
    return sequence_arguments(
        config, Shape(5, 3, gains=True), generator, "usual", "usual", "usual", "all", "random"
    )


class Broken:
    """The oracle with a function replaced wherever a module holds it."""

    name = "broken"
    layouts: tuple[str, ...] = ("stream", "wordlist", "bigint")

    def __init__(self, holders: tuple[Any, ...], function: str, change: Change) -> None:
        self.holders, self.function = holders, function
        self.changed = change(getattr(holders[0], function))

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        with ExitStack() as stack:
            for holder in self.holders:
                stack.enter_context(mock.patch.object(holder, self.function, self.changed))
            if self.function in ("product", "sigmoid", "view"):
                changed = {self.function: one_result(self.changed)}
                stack.enter_context(mock.patch.dict(evaluate._OPERATIONS, changed))
            return dict(load("numpy").evaluate(operation, arguments))


def one_more(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add 1 to the last row and unit of what a function gives."""

    def changed(*arguments: Any) -> Any:
        value = np.array(function(*arguments))
        value[-1:, ..., -1:] += 1
        return value

    return changed


def far_more(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add 2^22 to all that a function gives."""
    return lambda *arguments: function(*arguments) + 2**22


def nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give 0 for every element."""
    return lambda *arguments: function(*arguments) * 0


def less(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take 1 from forget gates, down to their least."""

    def changed(*arguments: Any) -> Any:
        gate = function(*arguments)
        return gate._replace(z=np.maximum(gate.z - 1, 1))

    return changed


def eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """Push a word although the head has room."""
    return lambda self, z, active: function(self, np.minimum(z, 1), active)


def too_late(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take words back only for the first row."""

    def changed(self: Any, active: Any) -> None:
        function(self, active & (np.arange(len(active)) < 1)[:, None])

    return changed


Change = Callable[[Callable[..., Any]], Callable[..., Any]]
STREAM = (buffer.StreamBuffer,)
WORDS = "words of the buffer after "
FORWARD: dict[str, tuple[str, tuple[Any, ...], str, Change, str, str]] = {
    "update": ("gru", (cells,), "gru_update", one_more, "CELL-012", "h"),
    "cell state": ("lstm", (cells,), "cell_state_update", one_more, "CELL-021", "c"),
    "hidden state": ("keeps", (cells,), "hidden_update", one_more, "CELL-022", "h"),
    "product": (
        "gru",
        (cells,),
        "product",
        far_more,
        "PROD-001",
        "product with weight_ih_l0, gate z",
    ),
    "sigmoid": ("lstm", (activations, cells), "sigmoid", one_more, "ACT-003", "gate i*"),
    "limited gate": ("gru", (activations, cells), "forget_gate", less, "ACT-004", "gate z*"),
    "gate": ("lstm", (activations, cells), "forget_gate", less, "ACT-005", "gate f*"),
    "view": ("keeps", (quantise, cells, sequence), "view", one_more, "FMT-004", "v"),
    "residue": ("gru", STREAM, "push", nothing, "MUL-001", "h after revmul of h"),
    "threshold": ("gru", STREAM, "renormalise", eager, "BUF-031", WORDS + "revmul of h"),
}
BACK: dict[str, tuple[str, tuple[Any, ...], str, Change, str, str]] = {
    "update": ("gru", (cells,), "gru_update", one_more, "CELL-040", "h"),
    "words": (
        "gru",
        STREAM,
        "undo_renormalise",
        too_late,
        "BUF-032",
        WORDS + "revmul_inverse of h",
    ),
    "gate": ("lstm", (activations, cells), "sigmoid", one_more, "ACT-003", "gate i*"),
}


@pytest.mark.parametrize("oracle_against", CONFIGS)
@pytest.mark.parametrize("back", [False, True])
def test_the_oracle_agrees_with_itself(oracle_against: str, back: bool) -> None:
    oracle = load("numpy")
    question = asked(CONFIGS[oracle_against], back)
    assert first_mismatch(oracle, InProcess(oracle), question) is None


def asked(config: Config, back: bool) -> Question:
    args = arguments_of(config)
    if not back:
        return Question("sequence_forward", args)
    forward = load("numpy").evaluate("sequence_forward", args)
    return Question("sequence_reverse", reversal_arguments(args, forward))


def begins(breakage: tuple[str, tuple[Any, ...], str, Change, str, str], back: bool) -> Mismatch:
    name, holders, function, change, _, _ = breakage
    port = InProcess(Broken(holders, function, change))
    mismatch = first_mismatch(load("numpy"), port, asked(CONFIGS[name], back))
    assert mismatch is not None
    return mismatch


@pytest.mark.parametrize("what", FORWARD)
def test_a_breakage_forward_is_named(what: str) -> None:
    mismatch = begins(FORWARD[what], back=False)
    assert (mismatch.rule, mismatch.quantity) == FORWARD[what][-2:]
    assert mismatch.place == "step 0, layer 0, group 1, forward"


@pytest.mark.parametrize("what", BACK)
def test_a_breakage_back_is_named(what: str) -> None:
    mismatch = begins(BACK[what], back=True)
    assert (mismatch.rule, mismatch.quantity) == BACK[what][-2:]
    assert mismatch.place == "step 4, layer 1, group 2, back"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole sequence agrees, a wrong one is told with its rule's title, a lost file too."""
    question = asked(CONFIGS["lstm"], back=False)
    path = tmp_path / "request.json"
    path.write_text(dump({"operation": question.operation, "args": encode(question.args)}))
    assert main(["--adapter", "numpy", "--request", str(path)]) == 0
    assert "no mismatch" in capsys.readouterr().out
    adapter = f"{__name__}:wrong"
    assert main(["--adapter", adapter, "--request", str(path)]) == 1
    told = capsys.readouterr().out
    assert "CELL-021 RevLSTM: cell state" in told
    assert "step 0, layer 0, group 1" in told
    assert main(["--adapter", "numpy", "--request", str(tmp_path / "absent")]) == 2
    assert main(["--adapter", "numpy", "--sequences", "2", "--seed", "3"]) == 0


def wrong() -> Broken:
    """Return an implementation whose cell state goes wrong."""
    return Broken((cells,), "cell_state_update", one_more)
