"""Settings of a language model and its training, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of, shown

from ..settings import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    OWN,
    PROBABILITY,
    REVERSIBLE,
    Allowed,
    TextSettings,
    among,
    described,
)

# The reversible cells in float arithmetic, with all states stored.
FLOAT: Final = {"float_revgru": "revgru", "float_revlstm": "revlstm"}
CELLS: Final = (*REVERSIBLE, *FLOAT, *OWN)


@dataclass(frozen=True)
class LmSettings(TextSettings):
    """Everything that decides a run."""

    data: str = described("builtin", "a folder with train, valid and test text, or 'builtin'")
    train_words: int | None = described(
        None,
        "words of the training text to train on, from its beginning, or none for all",
        Allowed("at least 1, or None for all", lambda value: value is None or value >= 1),
    )
    cell: str = described("revgru", "the recurrent cell", among(CELLS))
    match: str | None = described(
        None, "choose hidden_size to have as many parameters as with this cell", among(CELLS)
    )
    max_forget_bits: int | None = described(
        3, "bits forgotten at most, 1 … 10 or none for no limit"
    )
    forgetting: bool = described(True, "whether reversible cells forget")
    tied: bool = described(True, "whether embedding and softmax share their weight")
    steps: int = described(35, "steps of back-propagation through time", AT_LEAST_1)
    random_steps: bool = described(False, "draw the number of steps anew for every segment")
    carry_state: bool = described(True, "whether a segment begins where the last one ended")
    weight_decay: float = described(0.0, "pull of all parameters towards zero", NOT_NEGATIVE)
    dropout_words: float = described(
        0.0, "probability that a word is dropped everywhere", PROBABILITY
    )
    dropout_input: float = described(
        0.2, "probability of dropping a feature of the embedding", PROBABILITY
    )
    dropout_layers: float = described(0.2, "the same between layers", PROBABILITY)
    dropout_output: float = described(0.2, "the same before the softmax", PROBABILITY)
    weight_drop: float = described(0.0, "probability of dropping a recurrent weight", PROBABILITY)

    def __post_init__(self) -> None:
        """Check what a field alone does not show."""
        super().__post_init__()
        if self.framework == "jax" and self.cell in FLOAT:
            allowed = f"{one_of((*REVERSIBLE, *OWN))}, or framework torch"
            raise RevRNNError("E_ARGUMENT", "cell", shown(self.cell), allowed)
        if self.cell in FLOAT and not self.forgetting:
            raise RevRNNError("E_ARGUMENT", "forgetting", "False", f"True with cell {self.cell}")
        if self.has_config:
            self.config()
        if self.match not in (None, self.cell):
            replace(self, cell=self.match, match=None)  # it must be possible too

    @property
    def stack(self) -> Config | None:
        """The stack of a reversible cell, else ``None``."""
        return self.config() if self.is_reversible else None

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        told = super().warnings()
        if self.is_reversible and not self.forgetting:
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
        return told

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
