"""All figures of the documentation, from committed results (``nox -s figures``).

Each figure is drawn from one JSON file in ``docs/results`` that a command wrote, and from nothing
else; where that is not there, nothing is drawn. Figures read in grey: each cell has its marker and
its line style. Error bars are standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np

from revrnn.command_line import run_program
from revrnn.errors import RevRNNError

from .figure_style import NAMES, STYLE, Results, error_bars, look
from .nmt.figures import draw_contexts, draw_memory
from .outputs import write_file
from .settings import REVERSIBLE

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen first, so that no display is needed

# What the paper's abstract says is saved by language models.
CLAIMED: Final = (10, 15)


def stored_saving(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the saving of the default layout, at the longest segments."""
    own = [saving for saving in model["savings"] if saving["layout"] == "stream"]
    return own[-1]["stored"] if own else None


def draw_language_models(results: Results) -> Any:
    """Draw quality over saving, one panel for each reversible cell, both with the same scales.

    Models whose segments begin anew solve another task, so they are left out.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharex=True, sharey=True)
    quality, drawn = "test_perplexity", 0
    models = [model for model in results["models"] if model["config"]["carry_state"]]
    for axis, cell in zip(axes, REVERSIBLE, strict=True):
        axis.axvspan(*CLAIMED, color="#e4e4e4", zorder=0, label="the paper's abstract")
        own = cell.removeprefix("rev")
        points = []
        for model in models:
            saving, limit = stored_saving(model), model["config"].get("max_forget_bits")
            if model["config"]["cell"] == cell and saving is not None:
                points.append((saving, model[quality], "none" if limit is None else str(limit)))
        points.sort(key=lambda point: float(point[0]["mean"]))
        if points:
            axis.errorbar(
                [saving["mean"] for saving, _, _ in points],
                [value["mean"] for _, value, _ in points],
                xerr=[error_bars(saving) for saving, _, _ in points],
                yerr=[error_bars(value) for _, value, _ in points],
                label=f"{NAMES[cell]}, limit in bits",
                **look(cell),
            )
            drawn += 1
        for saving, value, note in points:
            at = (saving["mean"], value["mean"])
            # No limit and 5 bits lie near each other: their notes stand on either side.
            away, side = ((-6, -3), "right") if note == "none" else ((6, -8), "left")
            axis.annotate(note, at, xytext=away, textcoords="offset points", ha=side, fontsize=7)
        for model in models:
            if model["config"]["cell"] == own and not model["savings"]:
                value, wide = model[quality], model["config"]["hidden_size"]
                axis.errorbar(
                    [1.0],
                    [value["mean"]],
                    yerr=[error_bars(value)],
                    label=f"{NAMES[own]}, {wide} units",
                    fillstyle="full" if model["name"] == own else "none",
                    **look(own) | {"linestyle": "none"},
                )
        axis.set(xscale="log", xlabel="saving: 32 bits a state / bits stored", title=NAMES[cell])
        axis.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_xticks([1, 2, 5, 10, 20, 50])
        axis.legend()
    axes[0].set_ylabel("test perplexity")
    return figure if drawn else None


def draw_steps(results: Results) -> Any:
    """Draw the memory of an update against the length of a segment."""
    figure, axis = plt.subplots(figsize=(4.4, 3.1))
    for cell, by_steps in results["models"].items():
        steps = sorted(map(int, by_steps))
        axis.plot(steps, [by_steps[str(t)] / 1e6 for t in steps], label=NAMES[cell], **look(cell))
    axis.set(xscale="log", yscale="log", xlabel="steps of a segment, T", ylabel="peak, MB")
    axis.set_xticks(steps, [str(t) for t in steps], minor=False)
    axis.set_yticks([10, 20, 50, 100], ["10", "20", "50", "100"], minor=False)
    for one in (axis.xaxis, axis.yaxis):
        one.set_minor_formatter(mpl.ticker.NullFormatter())
    axis.legend()
    return figure


def draw_repeat(results: Results) -> Any:
    """Draw what networks repeat, by their size, those that forget beside those that do not."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True)
    for axis, kind in zip(axes, ("gru", "lstm"), strict=True):
        for variant, cell, name in (
            (kind, kind, NAMES[kind]),
            (f"rev{kind}", f"rev{kind}", f"{NAMES[f'rev{kind}']}, limited"),
            (f"rev{kind}-keeping", f"rev{kind}", f"{NAMES[f'rev{kind}']}, not forgetting"),
        ):
            own = [r for r in results["results"]["networks"] if r["variant"] == variant]
            sizes = sorted({r["hidden_size"] for r in own})
            right: dict[int, list[float]] = {size: [] for size in sizes}
            for r in own:
                right[r["hidden_size"]].append(100 * float(r["accuracy_trained"]))
            values = list(right.values())
            if sizes:
                style = look(cell) | ({"fillstyle": "none"} if "keeping" in variant else {})
                if variant == kind:  # larger, to be seen where another lies upon it
                    style |= {"fillstyle": "none", "markersize": 10}
                bars = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in values]
                means = [float(np.mean(v)) for v in values]
                axis.errorbar(sizes, means, yerr=bars, label=name, **style)
        axis.set(
            xscale="log",
            xlabel="units",
            title=f"{NAMES[kind]} and {NAMES[f'rev{kind}']}",
            ylim=(0, 105),
        )
        axis.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.legend(loc="lower right")
    axes[0].set_ylabel("tokens given back, %")
    return figure


def draw_forgetting(results: Results) -> Any:
    """Draw the bits that each unit forgets at each word of a text."""
    bits, words = np.array(results["bits"]), results["words"]
    sizes = {"height_ratios": [1, 2.4]}
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 4.2), sharex=True, gridspec_kw=sizes)
    above.plot(results["mean_by_word"], color="black", marker=".")
    above.set(ylabel="bits, mean", ylim=(0, None))
    order = np.argsort(bits.mean(0))
    drawn = below.imshow(bits.T[order], aspect="auto", cmap="Greys", origin="lower", vmin=0)
    below.grid(visible=False)
    below.set(ylabel="units, by their mean", xlabel="words of the test text")
    below.set_xticks(range(len(words)), words, rotation=90, fontsize=6)
    figure.colorbar(drawn, ax=below, label="bits forgotten")
    return figure


# By the beginning of a file's name, what draws it.
FIGURES: Final[dict[str, Sequence[tuple[str, Callable[[Results], Any]]]]] = {
    "lm": [("limits", draw_language_models)],
    "nmt": [("contexts", draw_contexts), ("memory", draw_memory)],
    "steps": [("memory", draw_steps)],
    "repeat": [("accuracy", draw_repeat)],
    "forgetting": [("words", draw_forgetting)],
}


def _drawn(path: Path, draw: Callable[[Results], Any]) -> Any:
    """Draw a file's results.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``results``, if it has others than a command wrote.
    """
    try:
        return draw(json.loads(path.read_text(encoding="utf-8")))
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        given = f"{path}: {type(error).__name__}: {error}"
        raise RevRNNError("E_ARGUMENT", "results", given, "a file as a command wrote it") from error


def draw_all(results: Path, out: Path) -> list[Path]:
    """Draw the figures of all results of a folder and return the files written."""
    written = []
    for path in sorted(results.glob("*.json")):
        for name, draw in FIGURES.get(path.stem.partition("-")[0], ()):
            with mpl.rc_context(STYLE):
                figure = _drawn(path, draw)
                if figure is None:
                    continue
                for kind, more in (("svg", {"metadata": {"Date": None}}), ("png", {})):
                    file = io.BytesIO()
                    figure.savefig(file, format=kind, **more)
                    out.mkdir(parents=True, exist_ok=True)
                    target = out / f"{path.stem}-{name}.{kind}"
                    written.append(write_file(target, file.getvalue()))
                plt.close(figure)
    return written


def main(arguments: list[str] | None = None) -> int:
    """Draw all figures; return 1 if there was nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.experiments.figures")
    results, out = Path("docs", "results"), Path("docs", "images")
    told = f"folder of JSON files that commands wrote ({results})"
    parser.add_argument("--results", type=Path, default=results, help=told)
    parser.add_argument("--out", type=Path, default=out, help=f"folder of the figures ({out})")
    given = parser.parse_args(arguments)
    try:
        written = draw_all(given.results, given.out)
    except RevRNNError as error:
        print(error, file=sys.stderr)
        return 2
    for path in written:
        print(path)
    if not written:
        beginnings = ", ".join(f"{name}-….json" for name in FIGURES)
        print(f"{given.results} has nothing to draw: {beginnings}", file=sys.stderr)
    return 0 if written else 1


if __name__ == "__main__":
    run_program(main, "experiments")
