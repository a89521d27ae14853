"""Text files and vocabularies, as all experiments read them."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from revrnn.errors import RevRNNError, shown

UNKNOWN = "<unk>"


def find_file(folder: Path, names: Sequence[str], hint: str) -> Path:
    """Return the first file of these names, plain or with ``.xz``, that a folder has.

    Args:
        folder: where to look.
        names: file names, without ``.xz``.
        hint: where a user gets the data, for the error.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if there is none.
    """
    if not folder.is_dir():
        raise RevRNNError("E_ARGUMENT", "data", str(folder), f"a folder that exists. {hint}")
    for name in names:
        for path in (folder / name, folder / f"{name}.xz"):
            if path.is_file():
                return path
    allowed = f"a folder with {' or '.join(names)}, plain or .xz. {hint}"
    raise RevRNNError("E_ARGUMENT", "data", str(folder), allowed)


def read_sentences(path: Path) -> list[list[str]]:
    """Return a file's sentences: one a line, tokens separated by spaces.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the file is empty, not UTF-8 or not xz.
    """
    opened = lzma.open if path.suffix == ".xz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
            sentences = [line.split() for line in file]
    except (UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        raise RevRNNError("E_ARGUMENT", "data", str(path), f"UTF-8 text ({error})") from error
    except OSError as error:
        given = f"{path}, which cannot be read: {error.strerror or error}"
        raise RevRNNError("E_ARGUMENT", "data", given, "text that may be read") from error
    if not any(sentences):
        raise RevRNNError("E_ARGUMENT", "data", str(path), "a text that is not empty")
    return sentences


@dataclass(frozen=True)
class Vocabulary:
    """Words and their numbers; a word's number is its place."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        """Make the look-up."""
        object.__setattr__(self, "_numbers", {word: i for i, word in enumerate(self.words)})

    @classmethod
    def of(
        cls, sentences: Iterable[Sequence[str]], special: Sequence[str] = (), least: int = 1
    ) -> Vocabulary:
        """Return words that occur at least ``least`` times, special ones first, then by count.

        Equally frequent words are in alphabetic order: the numbers depend on the text alone.
        """
        counts = Counter(word for sentence in sentences for word in sentence)
        words = [
            w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= least
        ]
        return cls((*special, *(word for word in words if word not in special)))

    def __len__(self) -> int:
        """Return how many words there are."""
        return len(self.words)

    def number(self, word: str) -> int:
        """Return a word's number, that of ``<unk>`` for an unknown one.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if neither the word nor ``<unk>`` is there.
        """
        numbers: dict[str, int] = self._numbers  # type: ignore[attr-defined]
        number = numbers.get(word, numbers.get(UNKNOWN))
        if number is None:
            allowed = f"words of the training text, which has no {UNKNOWN}"
            raise RevRNNError("E_ARGUMENT", "data", shown(word), allowed)
        return number
