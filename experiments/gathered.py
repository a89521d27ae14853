"""Runs of a comparison over several seeds, gathered into one table and one JSON file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import markdown
from .runs import RunFolder


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation of the sample (``None`` of one value), and the values."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation, "values": list(values)}


def gather(
    runs: Mapping[str, Sequence[RunFolder]],
    metrics: Sequence[str],
    describe: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    """Return what runs came to, by model, with mean and spread over the seeds.

    Args:
        runs: by model, runs that differ in their seed alone; those that have not ended are left
            out.
        metrics: entries of a summary.
        describe: returns a model in a few words.

    Returns:
        ``{"origin": …, "models": [{"name", "label", "config", "parameters", "seeds", METRIC …,
        "savings": [{…, "ideal": spread, "stored": spread, …}]}]}``.
    """
    models: list[dict[str, Any]] = []
    origins: list[dict[str, Any]] = []
    for name, folders in runs.items():
        ended = [folder for folder in folders if folder.has_ended]
        if not ended:
            continue
        summaries = [folder.summary for folder in ended]
        config = summaries[0]["config"]
        model = {
            "name": name,
            "label": describe(config),
            "config": config,
            "parameters": summaries[0]["parameters"],
            "seeds": [summary["config"]["seed"] for summary in summaries],
        }
        model |= {metric: spread([s[metric] for s in summaries]) for metric in metrics}
        models.append({**model, "savings": _savings([s["savings"] for s in summaries])})
        origins += [_origin(folder) for folder in ended]
    # Runs on one machine from one commit say the same.
    different = list({json.dumps(origin, sort_keys=True): origin for origin in origins}.values())
    return {"origin": different, "models": models}


def rates_tried(folder: Path, quality: str) -> dict[str, dict[str, float]]:
    """Return what the learning rates came to that a sweep chose from, by cell.

    Args:
        folder: of the runs, which may not be there.
        quality: the entry of a summary by which the choice was made.
    """
    tried: dict[str, dict[str, float]] = {}
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        run = RunFolder(path)
        if run.has_ended:
            config = run.config
            rate = f"{config['learning_rate']:g}"
            tried.setdefault(config["cell"], {})[rate] = run.summary[quality]
    return tried


def _origin(folder: RunFolder) -> dict[str, Any]:
    """Return where a run's figures come from, without what every run has of its own."""
    path = folder.path / "report.json"
    if not path.exists():
        return {}
    origin = json.loads(path.read_text(encoding="utf-8"))["origin"]
    own = ("wall_seconds", "sessions", "warnings", "engine")
    return {name: value for name, value in origin.items() if name not in own}


def _savings(by_seed: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return savings with numbers that depend on training as means and spreads."""
    gathered = []
    for same in zip(*by_seed, strict=True):
        row: dict[str, Any] = {}
        for name, value in same[0].items():
            values = [saving[name] for saving in same]
            if (
                name in ("ideal", "ideal_with_slices", "stored", "with_context", "of_ideal")
                and None not in values
            ):
                row[name] = spread(values)
            elif all(other == value for other in values):
                row[name] = value
        gathered.append(row)
    return gathered


def table_of_means(results: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Return a Markdown table: mean ± standard deviation over the seeds."""
    heads = ["model", "seeds", *(metric.replace("_", " ") for metric in metrics)]
    rows = []
    for model in results["models"]:
        cells = [model["label"], str(len(model["seeds"]))]
        rows.append([*cells, *(as_text(model[metric]) for metric in metrics)])
    return "\n".join(markdown.table(heads, rows)) + "\n"


def as_text(value: Mapping[str, Any]) -> str:
    """Return a mean and its deviation, if there is one."""
    if value["deviation"] is None:
        return f"{value['mean']:.2f}"
    return f"{value['mean']:.2f} ± {value['deviation']:.2f}"
