"""Settings of a language model and its training, and the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of

from ..settings import (
    FRAMEWORKS,
    LAYOUTS,
    OPTIMISERS,
    OWN,
    REVERSIBLE,
    check,
    check_number,
    check_seed,
    described,
    rate_warnings,
)

# The reversible cells in float arithmetic, with all states stored.
FLOAT: Final = {"float_revgru": "revgru", "float_revlstm": "revlstm"}
CELLS: Final = (*REVERSIBLE, *FLOAT, *OWN)


@dataclass(frozen=True)
class LmSettings:
    """Everything that decides a run.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a setting that cannot be, by its name.
    """

    data: str = described("builtin", "a folder with train, valid and test text, or 'builtin'")
    train_words: int | None = described(
        None, "words of the training text to train on, from its beginning, or none for all"
    )
    framework: str = described("torch", "who computes", FRAMEWORKS)
    cell: str = described("revgru", "the recurrent cell", CELLS)
    embedding_size: int = described(200, "features of a word")
    hidden_size: int = described(200, "units of a layer")
    num_layers: int = described(1, "layers")
    match: str | None = described(
        None, "choose hidden_size to have as many parameters as with this cell", CELLS
    )
    max_forget_bits: int | None = described(
        3, "bits forgotten at most, 1 … 10 or none for no limit"
    )
    forgetting: bool = described(True, "whether reversible cells forget")
    buffer: str = described("stream", "layout of the buffer", LAYOUTS)
    tied: bool = described(True, "whether embedding and softmax share their weight")
    batch_size: int = described(20, "parallel streams of text")
    steps: int = described(35, "steps of back-propagation through time")
    random_steps: bool = described(False, "draw the number of steps anew for every segment")
    carry_state: bool = described(True, "whether a segment begins where the last one ended")
    optimiser: str = described("adam", "sgd or adam", OPTIMISERS)
    learning_rate: float = described(2e-3, "learning rate")
    patience: int = described(0, "validations without gain before the learning rate falls")
    decay: float = described(0.25, "what the learning rate then is multiplied by")
    anneal: bool = described(
        False, "whether the learning rate also falls in a straight line, to 0 after the last pass"
    )
    clip: float = described(0.25, "largest norm of all gradients together")
    weight_decay: float = described(0.0, "pull of all parameters towards zero")
    dropout_words: float = described(0.0, "probability that a word is dropped everywhere")
    dropout_input: float = described(0.2, "probability of dropping a feature of the embedding")
    dropout_layers: float = described(0.2, "the same between layers")
    dropout_output: float = described(0.2, "the same before the softmax")
    weight_drop: float = described(0.0, "probability of dropping a recurrent weight")
    epochs: int = described(2, "passes over the training text")
    seed: int = described(0, "decides everything that is random")
    log_every: int = described(100, "updates between two lines of the metrics")
    checkpoint_every: int = described(500, "updates between two checkpoints")
    chunk_size: int = described(16, "steps that reversal handles together")
    compiled: bool = described(False, "whether PyTorch compiles the steps")
    measure_memory: bool = described(True, "whether to measure the memory of an update at the end")

    def __post_init__(self) -> None:
        """Check what the parser cannot."""
        for name in (
            "embedding_size",
            "hidden_size",
            "num_layers",
            "batch_size",
            "steps",
            "epochs",
            "log_every",
            "checkpoint_every",
            "chunk_size",
        ):
            check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        words = self.train_words
        check("train_words", words, words is None or words >= 1, "at least 1, or None for all")
        for name in (
            "dropout_words",
            "dropout_input",
            "dropout_layers",
            "dropout_output",
            "weight_drop",
        ):
            check(name, getattr(self, name), 0 <= getattr(self, name) < 0.9375, "0 … 0.9375")
        for name in ("learning_rate", "clip"):
            check_number(name, getattr(self, name))
        check_seed(self.seed)
        check("decay", self.decay, 0 < self.decay <= 1, "above 0, at most 1")
        check("patience", self.patience, self.patience >= 0, "at least 0")
        check_number("weight_decay", self.weight_decay, above=False)
        for name, allowed in (
            ("cell", CELLS),
            ("framework", FRAMEWORKS),
            ("optimiser", OPTIMISERS),
        ):
            check(name, getattr(self, name), getattr(self, name) in allowed, one_of(allowed))
        if self.framework == "jax" and self.cell in FLOAT:
            raise RevRNNError("E_ARGUMENT", "cell", repr(self.cell), "with framework torch")
        if self.cell in FLOAT and not self.forgetting:
            raise RevRNNError("E_ARGUMENT", "forgetting", "False", f"True with cell {self.cell}")
        if self.has_config:
            self.config()

    @property
    def stack(self) -> Config | None:
        """The stack of a reversible cell, else ``None``."""
        return self.config() if self.cell in REVERSIBLE else None

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        told = rate_warnings(self.optimiser, [self.learning_rate])
        if self.cell in REVERSIBLE and not self.forgetting:
            told.append(
                "forgetting is off: a network that must keep all it has ever seen does not learn "
                "a text (docs/results.md)"
            )
            if self.carry_state:
                told.append(
                    "carry_state is on without forgetting: the state grows with every word until "
                    "it overflows; give --no-carry-state"
                )
        if self.steps == 1 and not self.random_steps:
            told.append("steps is 1: nothing is propagated back through time")
        for name in ("dropout_words", "dropout_input", "dropout_output", "weight_drop"):
            if getattr(self, name) > 0.8:
                told.append(f"{name} is {getattr(self, name):g}: hardly anything is left")
        if self.clip < 1e-3 and self.optimiser == "sgd":
            told.append(f"clip is {self.clip:g}: steps of sgd are next to nothing")
        return told

    @property
    def may_grow(self) -> tuple[str, ...]:
        """What may be more when a run goes on: passes, unless the rate falls to the last."""
        return () if self.anneal else ("epochs",)

    @property
    def has_config(self) -> bool:
        """Whether the cell is a reversible one or its like in float arithmetic."""
        return self.cell not in OWN

    def config(self) -> Config:
        """Return the stack of a reversible cell, or of its like in float."""
        cell = FLOAT.get(self.cell, self.cell)
        return Config(
            cell,
            self.embedding_size,
            self.hidden_size,
            self.num_layers,
            self.max_forget_bits,
            self.forgetting,
            self.buffer,
        )


# The paper, section 5.1: what it took over from the language models of Merity et al. (2018).
_PAPER: Final[dict[str, Any]] = {
    "embedding_size": 650,
    "hidden_size": 1150,
    "batch_size": 20,
    "steps": 70,
    "random_steps": True,
    "optimiser": "sgd",
    "learning_rate": 20.0,
    "patience": 5,
    "clip": 0.1,
    "weight_decay": 1.2e-6,
    "dropout_words": 0.1,
    "dropout_input": 0.4,
    "dropout_layers": 0.3,
    "dropout_output": 0.4,
    "weight_drop": 0.5,
    "epochs": 300,
}

# One or two passes: a rate that is high at first and falls to 0 gains most in so few.
_SMALL: Final[dict[str, Any]] = {"learning_rate": 8e-3, "anneal": True}

# Their program, github.com/matthewmackay/reversible-rnn: its only layer has the embedding's width.
_AUTHORS: Final[dict[str, Any]] = {**_PAPER, "hidden_size": 650}
# The authors' width where there are hours, not days: as few passes as "small".
_WIDE: Final[dict[str, Any]] = {**_SMALL, "embedding_size": 650, "hidden_size": 650}

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": _SMALL,
    "wide": _WIDE,
    "authors": _AUTHORS,
    "paper": _PAPER,
}
