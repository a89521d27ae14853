"""The tables of the pages of results have the numbers of the committed results, row by row."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from folders import ROOT
from revrnn.experiments.figure_style import NAMES
from revrnn.experiments.settings import REVERSIBLE, limit

PAGES = ("results.md", "results-translation.md")
PAGE = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES)
RESULTS = ROOT / "docs" / "results"
CONTEXTS = {"full": "all states", "20h": "20 units", "emb+20h": "embeddings, 20 units"}
Model = Mapping[str, Any]


def committed(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def shown(value: Mapping[str, Any], digits: int = 1, unit: str = "") -> str:
    """Return a mean as the page has it, with its spread if there were more seeds."""
    if value["deviation"] is None:
        return f"{value['mean']:.{digits}f}{unit}"
    return f"{value['mean']:.{digits}f} ± {value['deviation']:.{digits}f}{unit}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def savings(model: Model, part: str | None = None) -> dict[str, Model]:
    """Return the savings over the longest segments, by layout."""
    return {own["layout"]: own for own in model["savings"] if own.get("part") == part}


def language_models(results: Model) -> Iterator[str]:
    for model in results["models"]:
        config, both = model["config"], savings(model)
        name = NAMES[config["cell"]]
        if config["cell"] in REVERSIBLE:
            name += f", {limit(config['max_forget_bits'])}"
        elif "-as-" in model["name"]:
            name += f", {config['hidden_size']} units"
        seeds = len(model["seeds"])  # 3, unless the row says otherwise
        name += {1: ", one seed", 3: ""}.get(seeds, f", {seeds} seeds")
        saved = [shown(both["stream"]["ideal"], 1, "×")] if both else [""]
        saved += [shown(both[s]["stored"], 1, "×") if both else "" for s in ("stream", "wordlist")]
        facts = f"{model['parameters']:,}", f"{config['learning_rate']:g}"
        quality = shown(model["valid_perplexity"]), shown(model["test_perplexity"])
        yield row(name, *facts, *quality, *saved)


def translations(results: Model) -> Iterator[str]:
    for model in results["models"]:
        config, seeds = model["config"], len(model["seeds"])
        more = f", {seeds} seeds" if seeds > 1 else ""
        name, sees = NAMES[config["cell"]], CONTEXTS[config["context"]]
        facts = f"{model['parameters']:,}", f"{config['learning_rate']:g}"
        losses = [shown(model[f"{part}_perplexity"], 2) for part in ("valid", "test")]
        bleu = [shown(model[f"bleu_{search}"]) for search in ("greedy", "beam")]
        yield row(name + more, sees, *facts, *losses, *bleu)
        if model["savings"]:
            encoder, decoder = savings(model, "encoder"), savings(model, "decoder")
            stream, words = encoder["stream"], encoder["wordlist"]["stored"]
            cells = [shown(stream["ideal"], 0, "×"), shown(stream["ideal_with_slices"], 1, "×")]
            cells += [shown(value, 1, "×") for value in (stream["stored"], words)]
            cells += [shown(stream["with_context"], 1, "×")]
            kept = [decoder["stream"][name] for name in ("ideal", "stored")]
            kept.append(decoder["wordlist"]["stored"])
            yield row(f"{name}, {sees}{more}", *cells, *(shown(value, 1, "×") for value in kept))


def repeated(results: Model) -> Iterator[str]:
    networks: dict[str, dict[int, list[Model]]] = {}
    for network in results["results"]["networks"]:
        sizes = networks.setdefault(network["variant"], {})
        sizes.setdefault(network["hidden_size"], []).append(network)
    words = {"": ", 3 bits", "unlimited": ", no limit", "keeping": ", not forgetting"}
    for variant, sizes in networks.items():
        cell, _, kind = variant.partition("-")
        name = NAMES[cell] + (words[kind] if cell in REVERSIBLE else "")
        cells = [name]
        for own in sizes.values():
            cells.append(f"{statistics.fmean(n['bits_trained'] for n in own):.2f}")
            cells.append(extremes([100 * n["accuracy_trained"] for n in own]))
        yield row(*(f"**{cell}**" for cell in cells) if kind == "keeping" else cells)


def extremes(values: Sequence[float]) -> str:
    low, high = (f"{value:.1f}" for value in (min(values), max(values)))
    return "100 %" if low == "100.0" else f"{low} … {high} %"


def peaks(results: Model) -> Iterator[str]:
    """Return a row for each cell, of which the small chunks are told of reversible ones alone."""
    config = results["config"]
    for cell, by_steps in results["models"].items():
        name = NAMES[cell] + (f", {config['max_forget_bits']} bits" if cell in REVERSIBLE else "")
        if config["chunk_size"] != 16:
            if cell not in REVERSIBLE:
                continue
            name += f", `--chunk-size {config['chunk_size']}`"
        yield row(name, *(f"{by_steps[steps] / 1e6:.0f}" for steps in ("35", "70")))


TABLES = {
    "peak": peaks,
    "lm": language_models,
    "model": language_models,
    "nmt": translations,
    "repeat": repeated,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_rows_are_those_of_the_results(name: str) -> None:
    results = committed(name)
    rows = list(TABLES.get(name.partition("-")[0], lambda results: [])(results))
    assert [one for one in rows if one not in PAGE.splitlines()] == []


def test_nothing_is_compared_that_was_trained_otherwise() -> None:
    """Models of one table differ in what the comparison decides and in the rate, in no more."""
    free = {"cell", "match", "hidden_size", "max_forget_bits", "learning_rate", "log_every"}
    for path in RESULTS.glob("lm-*.json"):
        models = committed(path.stem)["models"]
        # A setting of later commits is None where an earlier one did not have it.
        same = [
            {k: v for k, v in m["config"].items() if k not in free and v is not None}
            for m in models
        ]
        assert all(one == same[0] for one in same), path.name
        rates = {(m["config"]["cell"], m["config"]["learning_rate"]) for m in models}
        assert len(rates) == len(dict(rates)), path.name
