"""``python -m revrnn.experiments nmt``."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import Any

from rich.console import Console

from ..command import account, add_run_options, begin, introduce
from ..run_log import say
from ..runs import Arrays, RunFolder, of_a_run
from ..settings import LAYOUTS
from ..training import Place, perplexity
from .batches import Batch, make_batch, training_order
from .bleu import score
from .corpus import Corpus, as_text, load
from .report import describe, write_report
from .settings import PRESETS, NmtSettings
from .trainer import Trainer, evaluation_batches, mean_loss, train
from .translate import translate

# Batches of validation text that savings are averaged over, and sentences that the report shows.
_SAVING_BATCHES, _EXAMPLES = 8, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser, NmtSettings, PRESETS, "out/nmt")


def run(given: dict[str, Any], console: Console) -> None:
    """Train a translation model, translate the test text, and write the report."""
    with begin(NmtSettings, PRESETS, given, load) as run_of:
        _run(*run_of, console)


def _run(settings: NmtSettings, corpus: Corpus, folder: RunFolder, console: Console) -> None:
    trainer = Trainer(settings, len(corpus.source), len(corpus.target))
    count = sum(value.size for value in trainer.parameters().values())
    introduce(
        folder,
        console,
        settings,
        f"{describe(asdict(settings))}, {settings.framework}: {count:,} parameters; "
        f"{len(corpus.train):,} pairs to train on, {corpus.left_out:,} too long; "
        f"{len(corpus.source):,} and {len(corpus.target):,} words",
    )
    batches = evaluation_batches(corpus.valid, settings.batch_size)

    def after_pass(place: Place) -> None:
        _log_bits(trainer, settings, batches, folder, place)

    place = train(trainer, settings, corpus, folder, console, after_pass)
    best = folder.best()
    with of_a_run(folder.path / "best.safetensors"):
        trainer.set_parameters(best)
    summary = _summary(trainer, settings, corpus, place, console)
    summary["parameters"] = count
    summary["savings"] = _savings(settings, best, batches)
    summary["memory"] = _memory(settings, corpus)
    write_report(folder, summary, account(folder, settings, summary, corpus.hashes))
    say(
        folder,
        console,
        f"end: test BLEU {summary['bleu_greedy']:.2f} greedy, "
        f"{summary['bleu_beam']:.2f} with a beam of {settings.beam}; {folder.path / 'report.md'}",
    )


def _summary(
    trainer: Trainer, settings: NmtSettings, corpus: Corpus, place: Place, console: Console
) -> dict[str, Any]:
    """Return how well a trained model translates."""
    texts = {
        name: translate(trainer, settings, corpus.test, corpus.target, width, console)
        for name, width in (("greedy", 1), ("beam", settings.beam))
    }
    scores = {name: score(text, corpus.references) for name, text in texts.items()}
    examples = []
    for number, pair in enumerate(corpus.test[:_EXAMPLES]):
        source = as_text(corpus.source, list(pair.source))
        own = {"source": source, "reference": corpus.references[number]}
        examples.append(own | {name: text[number] for name, text in texts.items()})
    return {
        "config": asdict(settings),
        "pairs": len(corpus.train),
        "left_out": corpus.left_out,
        "source_words": len(corpus.source),
        "target_words": len(corpus.target),
        "bleu_greedy": scores["greedy"].bleu,
        "bleu_beam": scores["beam"].bleu,
        "signature": scores["beam"].signature,
        "valid_perplexity": perplexity(min(place.losses)),
        "test_perplexity": perplexity(mean_loss(trainer, corpus.test, settings.batch_size)),
        "best_epoch": place.best_epoch,
        "updates": place.update,
        "seconds": place.seconds,
        "examples": examples,
    }


def _log_bits(
    trainer: Trainer, settings: NmtSettings, batches: list[Batch], folder: RunFolder, place: Place
) -> None:
    """Add the savings at one batch of medium length to the metrics."""
    if not settings.is_reversible:
        return
    from .savings import savings

    one = [batches[len(batches) // 2]]
    both = savings(settings, trainer.parameters(), one, settings.buffer)
    folder.log(
        "bits",
        update=place.update,
        epoch=place.epoch,
        **{saving.part: saving.as_dict() for saving in both},
    )


def _savings(
    settings: NmtSettings, parameters: Arrays, batches: list[Batch]
) -> list[dict[str, Any]]:
    """Return the savings in both layouts, from batches of all lengths."""
    if not settings.is_reversible:
        return []
    from .savings import savings

    some = batches[:: math.ceil(len(batches) / _SAVING_BATCHES)]
    return [s.as_dict() for layout in LAYOUTS for s in savings(settings, parameters, some, layout)]


def _memory(settings: NmtSettings, corpus: Corpus) -> dict[str, Any] | None:
    """Return the memory of an update on the largest batch of the first pass."""
    if not settings.measure_memory:
        return None
    from .memory import measure

    order = training_order(corpus.train, settings.batch_size, settings.seed, 0)
    batches = [make_batch([corpus.train[i] for i in numbers]) for numbers in order]
    largest = max(batches, key=lambda batch: batch.source.size + batch.targets.size)
    peak = measure(settings, len(corpus.source), len(corpus.target), largest)
    return None if peak is None else peak.as_dict()
