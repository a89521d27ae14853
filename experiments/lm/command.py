"""``python -m revrnn.experiments lm``."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from ..command import account, add_run_options, begin, introduce
from ..run_log import say
from ..runs import RunFolder, of_a_run
from ..settings import REVERSIBLE, check
from ..training import perplexity
from .corpus import Corpus, load
from .memory import measure
from .report import describe, write_report
from .segments import streams
from .settings import PRESETS, LmSettings
from .sizes import all_parameters, matched
from .trainer import EVALUATION_ROWS, Trainer, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser, LmSettings, PRESETS, "out/lm")


def _corpus(settings: LmSettings) -> Corpus:
    """Return the corpus of a run, all of whose parts are long enough.

    The vocabulary is that of the whole training text, however much of it is trained on.
    """
    corpus = load(settings.data)
    words = settings.train_words
    if words is not None:
        allowed = f"at most the {len(corpus.train):,} words of the training text"
        check("train_words", words, words <= len(corpus.train), allowed)
        corpus = replace(corpus, train=corpus.train[:words])
    streams(corpus.train, settings.batch_size)
    streams(corpus.valid, EVALUATION_ROWS, "valid")
    streams(corpus.test, EVALUATION_ROWS, "test")
    return corpus


def run(given: dict[str, Any], console: Console) -> None:
    """Train a language model, measure it, and write the report."""
    with begin(LmSettings, PRESETS, given, _corpus) as run_of:
        _run(*run_of, console)


def _run(asked: LmSettings, corpus: Corpus, folder: RunFolder, console: Console) -> None:
    settings = matched(asked, len(corpus.vocabulary))
    count = all_parameters(settings, len(corpus.vocabulary))
    introduce(
        folder,
        console,
        settings,
        f"{describe(asdict(settings))}, {settings.framework}: {count:,} parameters; "
        f"{len(corpus.train):,} words to train on, {len(corpus.vocabulary):,} kinds",
    )
    trainer = Trainer(settings, corpus.log_frequencies())
    place = train(trainer, settings, corpus, folder, console)
    best = folder.best()
    with of_a_run(folder.path / "best.safetensors"):
        trainer.set_parameters(best)
    test = trainer.evaluate(streams(corpus.test, EVALUATION_ROWS, "test"))
    data = streams(corpus.train, settings.batch_size)
    saved: list[dict[str, Any]] = []
    if settings.cell in REVERSIBLE and settings.forgetting:
        from .savings import PAPER_STEPS, savings

        for steps in dict.fromkeys((settings.steps, PAPER_STEPS)):
            both = savings(settings, len(corpus.vocabulary), best, data, steps)
            saved += [saving.as_dict() for saving in both]
    memory = None
    if settings.measure_memory:
        memory = measure(settings, corpus.log_frequencies(), data)
    summary = {
        "config": asdict(settings),
        "parameters": count,
        "valid_perplexity": perplexity(min(place.losses)),
        "test_perplexity": perplexity(test),
        "updates": place.update,
        "seconds": place.seconds,
        "savings": saved,
        "memory": None if memory is None else memory.as_dict(),
    }
    write_report(folder, summary, account(folder, settings, summary, corpus.hashes))
    say(
        folder,
        console,
        f"end: perplexity {summary['valid_perplexity']:#.5g} on validation, "
        f"{summary['test_perplexity']:#.5g} on test text; {folder.path / 'report.md'}",
    )
