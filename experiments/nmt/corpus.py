"""Pairs of sentences in two languages, as numbers of words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from revrnn.errors import RevRNNError

from ..corpora import UNKNOWN, Vocabulary, find_file, read_sentences
from ..provenance import hashes
from .settings import NmtSettings

# Their numbers are their places: every vocabulary begins with them.
PAD, BEGIN, END, UNK = 0, 1, 2, 3
_MARKS: Final = ("<pad>", "<s>", "</s>")
_NAMES: Final = {
    "train": ("train",),
    "valid": ("val", "valid", "dev"),
    "test": ("test", "test_2016_flickr"),
}
_HINT = (
    "Multi30K (task 1, lower-cased and tokenised): github.com/multi30k/dataset. "
    "IWSLT 2016: wit3.fbk.eu, tokenised, one sentence a line, as train.en, train.de, valid.en, …"
)


@dataclass(frozen=True)
class Pair:
    """Two sentences as numbers of words, without marks of begin or end."""

    source: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """All pairs, and the vocabularies of the training text.

    Attributes:
        source: vocabulary of the language to translate from.
        target: vocabulary of the language to translate to.
        train: pairs to train on, none longer than ``max_length``.
        valid: all pairs of the validation text.
        test: all pairs of the test text.
        references: the translations of the test text, words as they are in the file.
        left_out: how many pairs of the training text are longer than ``max_length``.
        hashes: SHA-256 of the files, by their names.
    """

    source: Vocabulary
    target: Vocabulary
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    references: list[str]
    left_out: int
    hashes: dict[str, str] = field(default_factory=dict, compare=False)


def load(settings: NmtSettings) -> Corpus:
    """Return the corpus in the folder ``settings.data``.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for files that are missing, of unequal length or no text, for a
            line without words, by its number.
    """
    if not settings.data:
        raise RevRNNError("E_ARGUMENT", "data", "nothing", f"a folder with text. {_HINT}")
    folder = Path(settings.data)
    paths = {part: _paths(folder, names, settings) for part, names in _NAMES.items()}
    texts = {part: _read_part(files) for part, files in paths.items()}
    source, target = (
        Vocabulary.of(text, (*_MARKS, UNKNOWN), settings.least_count) for text in texts["train"]
    )

    def pairs(part: str) -> list[Pair]:
        return [
            Pair(tuple(map(source.number, a)), tuple(map(target.number, b)))
            for a, b in zip(*texts[part], strict=True)
        ]

    everything = pairs("train")
    longest = settings.max_length
    train = [p for p in everything if max(len(p.source), len(p.target)) <= longest]
    if not train:
        allowed = "more, for the training text has longer sentences only"
        raise RevRNNError("E_ARGUMENT", "max_length", longest, allowed)
    references = [" ".join(words) for words in texts["test"][1]]
    return Corpus(
        source,
        target,
        train,
        pairs("valid"),
        pairs("test"),
        references,
        len(everything) - len(train),
        hashes([path for files in paths.values() for path in files]),
    )


def _paths(folder: Path, names: tuple[str, ...], settings: NmtSettings) -> list[Path]:
    """Return the files of one part of the corpus in both languages."""
    return [
        find_file(folder, [f"{name}.{language}" for name in names], _HINT)
        for language in (settings.source, settings.target)
    ]


def _read_part(paths: list[Path]) -> list[list[list[str]]]:
    """Return the sentences of one part of the corpus in both languages."""
    texts = [_sentences(path) for path in paths]
    if len(texts[0]) != len(texts[1]):
        given = " and ".join(f"{p}: {len(s)} lines" for p, s in zip(paths, texts, strict=True))
        raise RevRNNError("E_ARGUMENT", "data", given, "as many lines in both languages")
    return texts


def _sentences(path: Path) -> list[list[str]]:
    sentences = read_sentences(path)
    for number, words in enumerate(sentences, 1):
        given = f"{path}, line {number}"
        if not words:
            raise RevRNNError("E_ARGUMENT", "data", f"{given}: empty", "a sentence in every line")
        marks = [word for word in words if word in _MARKS]
        if marks:
            allowed = "sentences without marks of their begin and end"
            raise RevRNNError("E_ARGUMENT", "data", f"{given}: {marks[0]}", allowed)
    return sentences


def as_text(vocabulary: Vocabulary, numbers: list[int]) -> str:
    """Return a sentence's words, separated by spaces."""
    return " ".join(vocabulary.words[number] for number in numbers)
