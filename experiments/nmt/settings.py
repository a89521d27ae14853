"""Settings of a translation model and its training, and the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from revrnn.config import Config
from revrnn.errors import one_of

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
from .context import Context

CELLS: Final = (*REVERSIBLE, *OWN)


@dataclass(frozen=True)
class NmtSettings:
    """Everything that decides a run.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a setting that cannot be, by its name.
    """

    data: str = described("", "a folder with train, val (valid, dev) and test text")
    source: str = described("en", "language to translate from: the ending of its files")
    target: str = described("de", "language to translate to")
    framework: str = described("torch", "who computes", FRAMEWORKS)
    cell: str = described("revgru", "the recurrent cell of encoder and decoder", CELLS)
    context: str = described(
        "emb+20h",
        "what attention sees of the source: 'full' states, 'emb' (embeddings), a slice of D units "
        "('20h'), or several with +",
    )
    embedding_size: int = described(128, "features of a word")
    hidden_size: int = described(128, "units of a layer")
    num_layers: int = described(1, "layers of encoder and of decoder")
    encoder_max_forget_bits: int | None = described(
        1, "bits the encoder forgets at most a unit and step, 1 … 10 or none for no limit"
    )
    decoder_max_forget_bits: int | None = described(3, "the same for the decoder")
    buffer: str = described("stream", "layout of the buffer", LAYOUTS)
    least_count: int = described(2, "words seen less often in training are <unk>")
    max_length: int = described(
        50, "longer pairs are not trained on, longer translations are not made (words)"
    )
    batch_size: int = described(64, "sentence pairs trained on together, of similar length")
    dropout: float = described(
        0.4, "probability of dropping features of embeddings, between layers, before the output"
    )
    optimiser: str = described("adam", "sgd or adam", OPTIMISERS)
    learning_rate: float = described(2e-3, "learning rate")
    patience: int = described(1, "passes without gain before the learning rate falls; 0: never")
    decay: float = described(0.5, "what the learning rate then is multiplied by")
    anneal: bool = described(
        False, "whether the learning rate also falls in a straight line, to 0 after the last pass"
    )
    clip: float = described(5.0, "largest norm of all gradients together")
    epochs: int = described(5, "passes over the training text")
    beam: int = described(5, "translations kept at a time in the beam search")
    length_penalty: float = described(
        1.0, "power of its length by which a translation's log probability is divided"
    )
    seed: int = described(0, "decides everything that is random")
    log_every: int = described(50, "updates between two lines of the metrics")
    checkpoint_every: int = described(200, "updates between two checkpoints")
    chunk_size: int = described(16, "steps that reversal handles together")
    compiled: bool = described(False, "whether PyTorch compiles the steps of reversal")
    measure_memory: bool = described(True, "whether to measure the memory of an update at the end")

    def __post_init__(self) -> None:
        """Check what the parser cannot."""
        for name in (
            "embedding_size",
            "hidden_size",
            "num_layers",
            "least_count",
            "max_length",
            "batch_size",
            "epochs",
            "beam",
            "log_every",
            "checkpoint_every",
            "chunk_size",
        ):
            check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "clip"):
            check_number(name, getattr(self, name))
        check_seed(self.seed)
        check("patience", self.patience, self.patience >= 0, "at least 0")
        for name, choices in (
            ("cell", CELLS),
            ("framework", FRAMEWORKS),
            ("buffer", LAYOUTS),
            ("optimiser", OPTIMISERS),
        ):
            check(name, getattr(self, name), getattr(self, name) in choices, one_of(choices))
        check("dropout", self.dropout, 0 <= self.dropout < 0.9375, "0 … 0.9375")
        check("decay", self.decay, 0 < self.decay <= 1, "above 0, at most 1")
        check_number("length_penalty", self.length_penalty, above=False)
        for name in ("source", "target"):
            check(name, getattr(self, name), bool(getattr(self, name)), "the ending of files")
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

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        told = rate_warnings(self.optimiser, [self.learning_rate])
        if self.dropout > 0.8:
            told.append(f"dropout is {self.dropout:g}: hardly anything is left")
        if self.clip < 1e-3 and self.optimiser == "sgd":
            told.append(f"clip is {self.clip:g}: steps of sgd are next to nothing")
        return told

    @property
    def may_grow(self) -> tuple[str, ...]:
        """What may be more when a run goes on: passes, unless the rate falls to the last."""
        return () if self.anneal else ("epochs",)

    @property
    def is_reversible(self) -> bool:
        """Whether encoder and decoder are trained by reversal."""
        return self.cell in REVERSIBLE

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
