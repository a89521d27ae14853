"""BLEU, as sacrebleu counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU


@dataclass(frozen=True)
class Score:
    """BLEU of a whole text, in percent, and sacrebleu's signature of how it was counted."""

    bleu: float
    signature: str


def score(translations: Sequence[str], references: Sequence[str]) -> Score:
    """Compare translations with one reference each, both tokenised: words separated by spaces."""
    # Without force sacrebleu warns of text that ends in " .": it looks tokenised, and it is.
    metric = BLEU(tokenize="none", force=True)
    counted = metric.corpus_score(list(translations), [list(references)])
    return Score(counted.score, str(metric.get_signature()))
