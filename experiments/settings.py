"""Settings of experiments: frozen dataclasses, from the command line or a run's folder."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of, shown
from revrnn.plan import check_sizes

T = TypeVar("T", bound="Settings")

FRAMEWORKS: Final = ("torch", "jax")
LAYOUTS: Final = ("stream", "wordlist")
OPTIMISERS: Final = ("sgd", "adam")
# Cells of revrnn, and the frameworks' own, with all states stored.
REVERSIBLE: Final = ("revgru", "revlstm")
OWN: Final = ("gru", "lstm")


class Allowed(NamedTuple):
    """What a setting may be: the words for it, the test of a value, and a list if there is one."""

    words: str
    test: Callable[[Any], bool]
    choices: tuple[str, ...] | None = None


AT_LEAST_1: Final = Allowed("at least 1", lambda value: value >= 1)
# With room for what optimisers multiply: beyond binary32 PyTorch raises, JAX computes infinities.
_MOST: Final = 1e30
ABOVE_0: Final = Allowed("above 0, at most 1e30", lambda value: 0 < value <= _MOST)
NOT_NEGATIVE: Final = Allowed("0 … 1e30", lambda value: 0 <= value <= _MOST)
PART: Final = Allowed("above 0, at most 1", lambda value: 0 < value <= 1)
PROBABILITY: Final = Allowed("0 … 0.9375", lambda value: 0 <= value < 0.9375)
# All frameworks take these.
SEED: Final = Allowed("0 … 2147483647", lambda value: 0 <= value < 2**31)


def among(choices: tuple[str, ...]) -> Allowed:
    """Allow these words, and ``None``, which the parser knows only where a field may be that."""
    return Allowed(one_of(choices), lambda value: value is None or value in choices, choices)


def described(default: Any, text: str, allowed: Allowed | None = None) -> Any:
    """Return a dataclass field with a default, a description, and what it may be."""
    return dataclasses.field(default=default, metadata={"help": text, "allowed": allowed})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run: what all experiments' settings have.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a setting that cannot be, by its name.
    """

    def __post_init__(self) -> None:
        """Check every field by what it may be."""
        for field in dataclasses.fields(self):
            allowed: Allowed | None = field.metadata["allowed"]
            if allowed is not None:
                value = getattr(self, field.name)
                check(field.name, value, allowed.test(value), allowed.words)

    @property
    def framework(self) -> str:
        """Who computes."""
        return "torch"

    @property
    def stack(self) -> Config | None:
        """A reversible stack of the run, if there is one."""
        return None

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        return []

    @property
    def may_grow(self) -> tuple[str, ...]:
        """Names of what may be more when a run goes on: a run can be made longer."""
        return ()


@dataclass(frozen=True)
class TextSettings(Settings):
    """What the settings of experiments share that pass over a text."""

    framework: str = described("torch", "who computes", among(FRAMEWORKS))
    cell: str = described("revgru", "the recurrent cell", among((*REVERSIBLE, *OWN)))
    embedding_size: int = described(200, "features of a word", AT_LEAST_1)
    hidden_size: int = described(200, "units of a layer", AT_LEAST_1)
    num_layers: int = described(1, "layers", AT_LEAST_1)
    buffer: str = described("stream", "layout of the buffer", among(LAYOUTS))
    batch_size: int = described(20, "what is trained on together", AT_LEAST_1)
    optimiser: str = described("adam", "sgd or adam", among(OPTIMISERS))
    learning_rate: float = described(2e-3, "learning rate", ABOVE_0)
    patience: int = described(
        0, "passes without gain before the learning rate falls; 0: never", NOT_NEGATIVE
    )
    decay: float = described(0.25, "what the learning rate then is multiplied by", PART)
    anneal: bool = described(
        False, "whether the learning rate also falls in a straight line, to 0 after the last pass"
    )
    clip: float = described(0.25, "largest norm of all gradients together", ABOVE_0)
    epochs: int = described(2, "passes over the training text", AT_LEAST_1)
    seed: int = described(0, "decides everything that is random", SEED)
    log_every: int = described(100, "updates between two lines of the metrics", AT_LEAST_1)
    checkpoint_every: int = described(500, "updates between two checkpoints", AT_LEAST_1)
    chunk_size: int = described(16, "steps that reversal handles together", AT_LEAST_1)
    compiled: bool = described(False, "whether PyTorch compiles the steps of reversal")
    measure_memory: bool = described(True, "whether to measure the memory of an update at the end")

    def __post_init__(self) -> None:
        """Check every field, and that no array is larger than any machine."""
        super().__post_init__()
        even = self.hidden_size + self.hidden_size % 2  # the frameworks' cells may have odd ones
        try:
            check_sizes(
                Config("revgru", self.embedding_size, even, self.num_layers), self.batch_size
            )
        except RevRNNError as error:
            name = {"input_size": "embedding_size"}.get(error.argument, error.argument)
            raise RevRNNError("E_ARGUMENT", name, getattr(self, name), error.allowed) from None

    @property
    def is_reversible(self) -> bool:
        """Whether the network is trained by reversal."""
        return self.cell in REVERSIBLE

    @property
    def may_grow(self) -> tuple[str, ...]:
        """What may be more when a run goes on: passes, unless the rate falls to the last."""
        return () if self.anneal else ("epochs",)

    def warnings(self) -> list[str]:
        """Return what will keep the run from learning, a sentence each."""
        told = rate_warnings(self.optimiser, [self.learning_rate])
        for field in dataclasses.fields(self):
            if field.metadata["allowed"] is PROBABILITY and getattr(self, field.name) > 0.8:
                told.append(
                    f"{field.name} is {getattr(self, field.name):g}: hardly anything is left"
                )
        if self.clip < 1e-3 and self.optimiser == "sgd":
            told.append(f"clip is {self.clip:g}: steps of sgd are next to nothing")
        return told


def limit(max_forget_bits: int | None) -> str:
    """Return a limit of forgetting as people say it."""
    if max_forget_bits is None:
        return "no limit"
    return "1 bit" if max_forget_bits == 1 else f"{max_forget_bits} bits"


def rate_warnings(optimiser: str, rates: Sequence[float]) -> list[str]:
    """Return what is to be said of learning rates with which an optimiser does not train."""
    least, most = {"sgd": (1e-2, 100.0), "adam": (1e-6, 0.1)}[optimiser]
    return [
        f"learning_rate {rate:g} is {'low' if rate < least else 'high'} for {optimiser}, which "
        f"trains such models with {least:g} … {most:g}: they will hardly learn"
        for rate in rates
        if not least <= rate <= most
    ]


def check_rates(given: Mapping[str, Any]) -> None:
    """Raise ``E_ARGUMENT`` for rates that are none, or beside which something has no effect."""
    rates = given.get("rates") or []
    for rate in rates:
        check("rates", rate, ABOVE_0.test(rate), ABOVE_0.words)
    different = len({f"{rate:g}" for rate in rates}) == len(rates)
    check("rates", rates, different, "different numbers, to six digits")
    name, allowed = "rate_epochs", "nothing, without rates to choose from"
    if rates:
        name, allowed = "learning_rate", "one of rates and learning_rate"
    check(name, given.get(name), name not in given, allowed)


def check(name: str, value: object, good: bool, allowed: str) -> None:
    """Raise ``E_ARGUMENT`` unless a setting is good."""
    if not good:
        raise RevRNNError("E_ARGUMENT", name, shown(value), allowed)


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
        kind, allowed = kinds[field.name], field.metadata["allowed"]
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
            choices=None if allowed is None else allowed.choices,
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
    names = {field.name for field in dataclasses.fields(settings)}
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
    values = dataclasses.asdict(began)
    for name, value in given.items():
        if name not in values or values[name] == value:
            continue
        if name not in began.may_grow or value < values[name]:
            allowed = f"{values[name]!r}, with which the run began"
            raise RevRNNError("E_ARGUMENT", name, shown(value), allowed)
        values[name] = value
    return settings(**values)
