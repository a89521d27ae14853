"""Settings of a translation model and its training, and the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from revrnn.config import Config

from ..settings import (
    ABOVE_0,
    AT_LEAST_1,
    NOT_NEGATIVE,
    OWN,
    PART,
    PROBABILITY,
    REVERSIBLE,
    Allowed,
    TextSettings,
    check,
    described,
)
from .context import Context

CELLS: Final = (*REVERSIBLE, *OWN)
# No length to this power leaves float64.
_POWER: Final = Allowed("0 … 10", lambda value: 0 <= value <= 10)
_BEAM: Final = Allowed("1 … 1024", lambda value: 1 <= value <= 1024)
_ENDING: Final = Allowed("the ending of files", bool)


@dataclass(frozen=True)
class NmtSettings(TextSettings):
    """Everything that decides a run."""

    data: str = described("", "a folder with train, val (valid, dev) and test text")
    source: str = described("en", "language to translate from: the ending of its files", _ENDING)
    target: str = described("de", "language to translate to", _ENDING)
    context: str = described(
        "emb+20h",
        "what attention sees of the source: 'full' states, 'emb' (embeddings), a slice of D units "
        "('20h'), or several with +",
    )
    embedding_size: int = described(128, "features of a word", AT_LEAST_1)
    hidden_size: int = described(128, "units of a layer", AT_LEAST_1)
    encoder_max_forget_bits: int | None = described(
        1, "bits the encoder forgets at most a unit and step, 1 … 10 or none for no limit"
    )
    decoder_max_forget_bits: int | None = described(3, "the same for the decoder")
    least_count: int = described(2, "words seen less often in training are <unk>", AT_LEAST_1)
    max_length: int = described(
        50, "longer pairs are not trained on, longer translations are not made (words)", AT_LEAST_1
    )
    batch_size: int = described(64, "sentence pairs, of similar length", AT_LEAST_1)
    dropout: float = described(
        0.4,
        "probability of dropping features of embeddings, between layers, before the output",
        PROBABILITY,
    )
    patience: int = described(
        1, "passes without gain before the learning rate falls; 0: never", NOT_NEGATIVE
    )
    decay: float = described(0.5, "what the learning rate then is multiplied by", PART)
    clip: float = described(5.0, "largest norm of all gradients together", ABOVE_0)
    epochs: int = described(5, "passes over the training text", AT_LEAST_1)
    beam: int = described(5, "translations kept at a time in the beam search", _BEAM)
    length_penalty: float = described(
        1.0, "power of its length by which a translation's log probability is divided", _POWER
    )
    log_every: int = described(50, "updates between two lines of the metrics", AT_LEAST_1)
    checkpoint_every: int = described(200, "updates between two checkpoints", AT_LEAST_1)

    def __post_init__(self) -> None:
        """Check what a field alone does not show."""
        super().__post_init__()
        check("target", self.target, self.source != self.target, "another language than source")
        most = self.hidden_size // 2 if self.is_reversible else self.hidden_size
        units = self.attended.units
        allowed = f"slices of at most {most} units"
        check("context", self.context, units is None or 0 <= units <= most, allowed)
        if self.is_reversible:
            self.encoder_config()
            self.decoder_config()

    @property
    def stack(self) -> Config | None:
        """The decoder of a reversible cell, else ``None``."""
        return self.decoder_config() if self.is_reversible else None

    @property
    def attended(self) -> Context:
        """What attention sees."""
        return Context.parse(self.context)

    def context_sizes(self) -> list[int]:
        """Return the widths of what attention sees: embeddings, units of the encoder."""
        units = self.attended.units
        sizes = [self.embedding_size] if self.attended.embeddings else []
        wide = self.hidden_size if units is None else units
        return [*sizes, wide] if wide else sizes

    def encoder_config(self) -> Config:
        """Return the encoder of a reversible cell."""
        units = self.attended.units
        return self._config(self.encoder_max_forget_bits, 0 if units is None else units)

    def decoder_config(self) -> Config:
        """Return the decoder of a reversible cell."""
        return self._config(self.decoder_max_forget_bits, 0)

    def _config(self, limit: int | None, slice_size: int) -> Config:
        return Config(
            self.cell,
            self.embedding_size,
            self.hidden_size,
            self.num_layers,
            limit,
            buffer=self.buffer,
            slice_size=slice_size,
        )


# The paper, section 5.2.
_PAPER: Final[dict[str, Any]] = {
    "embedding_size": 300,
    "hidden_size": 300,
    "epochs": 20,
    "batch_size": 64,
    "dropout": 0.4,
}
_WIDE: Final[dict[str, Any]] = {
    **_PAPER,
    "embedding_size": 600,
    "hidden_size": 600,
    "num_layers": 2,
}

# As the authors' program trains and searches, github.com/matthewmackay/reversible-rnn: rates are
# 1 for LSTM, 0.5 for RevLSTM and 0.2 for GRU and RevGRU; words of any count are known.
_AUTHORS: Final[dict[str, Any]] = {
    **_PAPER,
    "optimiser": "sgd",
    "learning_rate": 0.2,
    "epochs": 80,
    "least_count": 1,
    "length_penalty": 0.0,
    "encoder_max_forget_bits": 3,
}

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {},
    "multi30k": _PAPER,
    "authors": _AUTHORS,
    "iwslt": _WIDE,
}
