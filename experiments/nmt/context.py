"""What attention sees of the source sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from revrnn.errors import RevRNNError, shown

_ALLOWED = "'full', 'emb', a slice such as '20h', or embeddings with one of these: 'emb+20h'"


@dataclass(frozen=True)
class Context:
    """Parts that attention sees.

    Attributes:
        embeddings: whether it sees the embedded words.
        units: units of the encoder's top layer that it sees: ``None`` for all, 0 for none.
    """

    embeddings: bool
    units: int | None

    @classmethod
    def parse(cls, text: str) -> Context:
        """Read ``"full"``, ``"emb"``, ``"20h"``, ``"emb+20h"``, ``"emb+full"``, in any case.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for anything else.
        """
        parts = text.lower().split("+")
        rest = [part for part in parts if part != "emb"]
        embeddings = len(rest) < len(parts)
        good = len(parts) - len(rest) <= 1 and len(rest) <= 1
        if good and not rest:
            return cls(embeddings, 0)
        if good and rest == ["full"]:
            return cls(embeddings, None)
        match = re.fullmatch(r"([1-9][0-9]{0,5})h", rest[0]) if good else None
        if match is None:
            raise RevRNNError("E_ARGUMENT", "context", shown(text), _ALLOWED)
        return cls(embeddings, int(match[1]))
