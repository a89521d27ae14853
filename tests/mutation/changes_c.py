"""Mutants of C source: one operator, constant, index, error code or statement changed at a time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .mutant import Mutant

_TOKEN: Final = re.compile(
    r"""(?P<skip>/\*.*?\*/|//[^\n]*|\#\s*(?:include|if|ifdef|ifndef|endif|else|undef)\b[^\n]*)
    |(?P<define>\#\s*define\s+\w+(?:\([^)]*\))?)
    |(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d+\.\d+|\d+[uUlL]*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<operator><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%<>=!&|^~?:;,.(){}\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)

_BINARY: Final = {
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "%": "/",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "^": "|",
}
_ALWAYS: Final = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+=": "-=",
    "-=": "+=",
    "*=": "+=",
    "<<=": ">>=",
    ">>=": "<<=",
    "|=": "&=",
    "&=": "|=",
    "++": "--",
    "--": "++",
}
_STATEMENT: Final = re.compile(
    r"^ +(?P<body>(?!(?:return|if|for|while|do|switch|case|default|break|goto|else|static|const|"
    r"enum|struct|union|unsigned|int|long|char|bool|double|float|void|size_t|u?int\d+_t)\b)"
    r"[*A-Za-z_][^;{}]*);",
    re.MULTILINE,
)
_FUNCTION: Final = re.compile(
    r"^(?:[A-Za-z_][\w *]*?[ *])(?P<name>\w+)\([^;{]*?\)\n\{", re.MULTILINE
)
_TYPE: Final = re.compile(
    r"bool|char|const|double|float|int|long|size_t|static|struct|unsigned|void|u?int\d+_t|enum"
)
_BEFORE_UNARY: Final = frozenset(["return", "case", "sizeof", "else"])


@dataclass(frozen=True)
class Token:
    """A token of C.

    Attributes:
        kind: ``number``, ``name``, ``operator``, ``text`` or ``define``.
        text: as it is written.
        start: where in the file.
    """

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Edit:
    """A piece of a file and what takes its place."""

    start: int
    end: int
    text: str


def tokens(source: str) -> list[Token]:
    """Return the tokens of a file, without comments and lines of the preprocessor but #define."""
    return [
        Token(str(match.lastgroup), match[0], match.start())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "skip"
    ]


def edits(source: str) -> Iterator[Edit]:
    """Give every change of a file; some of them cannot be compiled."""
    all_tokens = tokens(source)
    for position, token in enumerate(all_tokens):
        if token.kind == "number":
            yield from _numbers(token)
        elif token.kind == "name":
            yield from _names(token, _before(all_tokens, position))
        elif token.kind == "operator":
            yield from _operators(source, all_tokens, position)
    yield from _statements(source)


def _before(all_tokens: list[Token], position: int) -> Token:
    return all_tokens[position - 1] if position else Token("operator", ";", 0)


def _numbers(token: Token) -> Iterator[Edit]:
    if "." in token.text:
        yield Edit(token.start, token.end, f"({token.text} + 0.25)")
        return
    digits = token.text.rstrip("uUlL")
    suffix, value = token.text[len(digits) :], int(digits, 0)
    for changed in (value + 1, value - 1):
        yield Edit(token.start, token.end, f"{changed}{suffix}" if changed >= 0 else "(-1)")


def _names(token: Token, before: Token) -> Iterator[Edit]:
    if token.text in ("true", "false"):
        yield Edit(token.start, token.end, "false" if token.text == "true" else "true")
    elif re.fullmatch(r"E_[A-Z]+", token.text) and before.text not in ("==", "!="):
        other = "E_OP" if token.text != "E_OP" else "E_TYPE"
        yield Edit(token.start, token.end, other)


def _operators(source: str, all_tokens: list[Token], position: int) -> Iterator[Edit]:
    token, before = all_tokens[position], _before(all_tokens, position)
    if token.text in _ALWAYS:
        yield Edit(token.start, token.end, _ALWAYS[token.text])
    elif token.text in ("!", "~") or (token.text == "-" and not _ends_operand(before)):
        yield Edit(token.start, token.end, " ")
    elif token.text in _BINARY and _ends_operand(before) and not _declares(all_tokens, position):
        yield Edit(token.start, token.end, _BINARY[token.text])
    elif token.text == "[" and not _declares(all_tokens, position):
        end = _matching(all_tokens, position)
        if end > position + 1:
            inner = source[token.end : all_tokens[end].start]
            yield Edit(token.start, all_tokens[end].end, f"[1 + ({inner})]")


def _ends_operand(token: Token) -> bool:
    """Say whether an operator after this token has a left operand."""
    if token.kind == "name":
        return token.text not in _BEFORE_UNARY
    return token.kind in ("number", "text") or token.text in (")", "]")


def _declares(all_tokens: list[Token], position: int) -> bool:
    """Say whether ``*`` or ``[`` stands in a declaration or cast."""
    if all_tokens[position].text == "[":
        start = position - 1
        while start > 0 and all_tokens[start - 1].text == "*":
            start -= 1
        return start > 0 and _is_type(all_tokens, start - 1)
    return all_tokens[position].text == "*" and _is_type(all_tokens, position - 1)


def _is_type(all_tokens: list[Token], position: int) -> bool:
    token = all_tokens[position]
    return _TYPE.fullmatch(token.text) is not None or (
        token.kind == "name"
        and position > 0
        and all_tokens[position - 1].text in ("struct", "enum")
    )


def _matching(all_tokens: list[Token], position: int) -> int:
    depth = 0
    for end in range(position, len(all_tokens)):
        depth += {"[": 1, "]": -1}.get(all_tokens[end].text, 0)
        if depth == 0:
            return end
    return position


def _statements(source: str) -> Iterator[Edit]:
    """Give the removal of assignments, calls and ``continue``."""
    for match in _STATEMENT.finditer(source):
        before = re.sub(r"/\*.*?\*/", "", source[: match.start("body")], flags=re.DOTALL).rstrip()
        if before.endswith(("{", "}", ";", ")", ":", "else")):
            yield Edit(match.start("body"), match.end("body"), "")


def mutants(source: str) -> Iterator[Mutant]:
    """Give every mutant of a file; some of them cannot be compiled."""
    seen: Counter[str] = Counter()
    for edit in edits(source):
        changed = source[: edit.start] + edit.text + source[edit.end :]
        name = f"{_function(source, edit.start)}: {_shown(source, edit)}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" (number {seen[name]})"
        yield Mutant(name, changed, source.count("\n", 0, edit.start) + 1)


def _function(source: str, position: int) -> str:
    """Return the name of the function around a position, or what is defined there."""
    head = source[:position]
    if head.rfind("\n}") < (match_at := _last(_FUNCTION, head)[0]):
        return _last(_FUNCTION, head)[1] if match_at >= 0 else "file"
    return "file"


def _last(pattern: re.Pattern[str], text: str) -> tuple[int, str]:
    last = (-1, "")
    for match in pattern.finditer(text):
        last = (match.start(), match["name"])
    return last


def _shown(source: str, edit: Edit) -> str:
    """Return the lines of a change before and after, as one line each."""
    start = source.rfind("\n", 0, edit.start) + 1
    end = source.find("\n", edit.end)
    before = " ".join(source[start:end].split())
    after = " ".join((source[start : edit.start] + edit.text + source[edit.end : end]).split())
    return f"{before} -> {after}"
