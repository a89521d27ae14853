"""Texts for language models: Penn Treebank, WikiText-2, or the help that every Python has."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt

from ..corpora import UNKNOWN, Vocabulary, find_file, read_sentences
from ..provenance import hashes

Ids = npt.NDArray[np.int32]

END = "<eos>"
# File names of Penn Treebank as Mikolov prepared it, and of WikiText-2.
_NAMES = {
    "train": ("train.txt", "ptb.train.txt", "wiki.train.tokens"),
    "valid": ("valid.txt", "ptb.valid.txt", "wiki.valid.tokens"),
    "test": ("test.txt", "ptb.test.txt", "wiki.test.tokens"),
}
_HINT = (
    "Penn Treebank: train.txt, valid.txt, test.txt of the 'simple examples' of T. Mikolov. "
    "WikiText-2: wiki.train.tokens, … of 'wikitext-2-v1' by Salesforce Research."
)


@dataclass(frozen=True)
class Corpus:
    """Training, validation and test text as numbers of words, int32 ``[N]`` each.

    ``hashes`` are the SHA-256 of the files, by their names.
    """

    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    hashes: dict[str, str] = field(default_factory=dict, compare=False)

    def log_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the log of how often each word is met in training text, float32 ``[V]``.

        Every word is counted once more, so that none has frequency 0.
        """
        counts = np.bincount(self.train, minlength=len(self.vocabulary)) + 1
        logs: npt.NDArray[np.float32] = np.log(counts / counts.sum()).astype(np.float32)
        return logs


def load(data: str) -> Corpus:
    """Return the corpus in a folder, or with ``"builtin"`` Python's own help texts.

    Every line is a sentence, and ends with a word of its own.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if files are missing or no text.
    """
    if data == "builtin":
        parts = _builtin()
        text = "\n".join(topics[name] for name in sorted(topics))
        digests = {"builtin": hashlib.sha256(text.encode()).hexdigest()}
    else:
        paths = {part: find_file(Path(data), names, _HINT) for part, names in _NAMES.items()}
        parts = {part: read_sentences(path) for part, path in paths.items()}
        digests = hashes(list(paths.values()))
    with_ends = {part: [[*line, END] for line in lines if line] for part, lines in parts.items()}
    vocabulary = Vocabulary.of(with_ends["train"])
    numbers = {
        part: np.array([vocabulary.number(word) for line in lines for word in line], np.int32)
        for part, lines in with_ends.items()
    }
    return Corpus(vocabulary, **numbers, hashes=digests)


def _builtin() -> dict[str, list[list[str]]]:
    """Return the lines of Python's help topics as words; every tenth block is held out."""
    lines = [line for name in sorted(topics) for line in topics[name].splitlines()]
    words = [re.findall(r"\w+|[^\w\s]", line.lower()) for line in lines]
    common = set(Vocabulary.of(words, least=3).words)
    known = [[word if word in common else UNKNOWN for word in line] for line in words]
    parts: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for number, line in enumerate(known):
        # Blocks of 50 lines, so that a held-out line's neighbours are held out too.
        part = {8: "valid", 9: "test"}.get(number // 50 % 10, "train")
        parts[part].append(line)
    return parts
