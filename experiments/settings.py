"""Settings of experiments: frozen dataclasses, from the command line or a run's folder."""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from revrnn.config import Config
from revrnn.errors import RevRNNError


class RunSettings(Protocol):
    """What commands ask of an experiment's settings, beside their fields."""

    @property
    def framework(self) -> str:
        """Who computes."""
        ...

    @property
    def stack(self) -> Config | None:
        """A reversible stack of the run, if there is one."""
        ...

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        ...

    @property
    def may_grow(self) -> tuple[str, ...]:
        """Names of what may be more when a run goes on: a run can be made longer."""
        ...


T = TypeVar("T", bound=RunSettings)

FRAMEWORKS: Final = ("torch", "jax")
LAYOUTS: Final = ("stream", "wordlist")
OPTIMISERS: Final = ("sgd", "adam")
# Cells of revrnn, and the frameworks' own, with all states stored.
REVERSIBLE: Final = ("revgru", "revlstm")
OWN: Final = ("gru", "lstm")


def described(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    """Return a dataclass field with a default, a description and perhaps a list of choices."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


def limit(max_forget_bits: int | None) -> str:
    """Return a limit of forgetting as people say it."""
    if max_forget_bits is None:
        return "no limit"
    return "1 bit" if max_forget_bits == 1 else f"{max_forget_bits} bits"


def check_number(name: str, value: float, least: float = 0.0, above: bool = True) -> None:
    """Raise ``E_ARGUMENT`` unless a number is finite and above ``least``, or at least that."""
    good = value > least if above else value >= least
    check(
        name, value, good and math.isfinite(value), f"{'above' if above else 'at least'} {least:g}"
    )


def rate_warnings(optimiser: str, rates: Sequence[float]) -> list[str]:
    """Return what is to be said of learning rates with which an optimiser does not train."""
    least, most = {"sgd": (1e-2, 100.0), "adam": (1e-6, 0.1)}[optimiser]
    return [
        f"learning_rate {rate:g} is {'low' if rate < least else 'high'} for {optimiser}, which "
        f"trains such models with {least:g} … {most:g}: they will hardly learn"
        for rate in rates
        if not least <= rate <= most
    ]


def check_seed(seed: int) -> None:
    """Raise ``E_ARGUMENT`` unless all frameworks take a seed."""
    check("seed", seed, 0 <= seed < 2**31, "0 … 2147483647")


def check(name: str, value: object, good: bool, allowed: str) -> None:
    """Raise ``E_ARGUMENT`` unless a setting is good."""
    if not good:
        raise RevRNNError("E_ARGUMENT", name, repr(value), allowed)


def add_options(
    parser: argparse.ArgumentParser,
    settings: type[Any],
    presets: Mapping[str, Mapping[str, Any]],
    without: Collection[str] = (),
) -> None:
    """Add ``--preset``, and an option for every field of a dataclass made with :func:`described`.

    Options that are not given do not appear in what the parser returns, so that a preset's values
    stay. ``none`` is ``None``; truth values have ``--no-`` forms.

    Args:
        parser: that gets them.
        settings: the dataclass.
        presets: what each sets, by its name; the first is the default.
        without: fields of which the command decides itself.
    """
    first = next(iter(presets))
    text = f"settings to begin with, which other options override (default: {first})"
    parser.add_argument("--preset", choices=tuple(presets), default=first, help=text)
    kinds = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if field.name in without:
            continue
        option = "--" + field.name.replace("_", "-")
        text = f"{field.metadata['help']} ({_defaults(field, presets)})"
        kind = kinds[field.name]
        if kind is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        parser.add_argument(
            option,
            type=_reader(kind),
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            choices=field.metadata["choices"],
        )


def _defaults(field: dataclasses.Field[Any], presets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a setting is with the first preset, and with those where it is something else."""
    first, *others = (own.get(field.name, field.default) for own in presets.values())
    if first == "":
        return "must be given"
    differ: dict[Any, list[str]] = {}
    for name, value in zip(list(presets)[1:], others, strict=True):
        if value != first:
            differ.setdefault(value, []).append(name)
    parts = [f"; {', '.join(names)}: {_word(value)}" for value, names in differ.items()]
    return f"default: {_word(first)}" + "".join(parts)


def _word(value: Any) -> str:
    """Return a value as one would give it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _reader(kind: Any) -> Any:
    """Return what turns a word into a value of a type, which may be ``X | None``."""
    inner = [part for part in typing.get_args(kind) if part is not types.NoneType]
    if not inner:
        return kind

    def read(word: str) -> Any:
        return None if word == "none" else inner[0](word)

    read.__name__ = f"{inner[0].__name__} or none"
    return read


def chosen(
    settings: type[T], presets: Mapping[str, Mapping[str, Any]], preset: str, given: dict[str, Any]
) -> T:
    """Return a preset's settings with what was given on the command line."""
    names = {field.name for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    own = {name: value for name, value in given.items() if name in names}
    return settings(**{**presets[preset], **own})


def restored(settings: type[T], config: Mapping[str, Any], given: dict[str, Any]) -> T:
    """Return the settings of a run that goes on.

    What is given again must be what the run began with, or more where it may grow.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if something else is given.
    """
    try:
        began = settings(**config)
    except (TypeError, ValueError, AttributeError) as error:
        what = f"config.json of another experiment, or damaged: {error}"
        raise RevRNNError("E_ARGUMENT", "out", what, "that of a run of this experiment") from error
    # With the defaults of settings that there were not yet when the run began.
    values = dataclasses.asdict(began)  # type: ignore[call-overload]
    for name, value in given.items():
        if name not in values or values[name] == value:
            continue
        if name not in began.may_grow or value < values[name]:
            allowed = f"{values[name]!r}, with which the run began"
            raise RevRNNError("E_ARGUMENT", name, repr(value), allowed)
        values[name] = value
    return settings(**values)
