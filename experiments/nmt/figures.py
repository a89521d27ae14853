"""Figures of translation: what attention sees against quality and against memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl

from ..figure_style import LOOKS, NAMES, Results, error_bars, look
from ..settings import REVERSIBLE

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen first, so that no display is needed

HATCHES: Final = dict(zip(LOOKS, ("", "//", "..", "xx"), strict=True))
# What the paper's abstract says is saved.
CLAIMED: Final = {"encoder": (5, 10), "decoder": (10, 15)}


def draw_contexts(results: Results) -> Any:
    """Draw what attention sees against quality: BLEU, and perplexity beside it."""
    contexts = _contexts(results)
    if not contexts:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharex=True)
    for axis, quality, label in (
        (axes[0], "bleu_beam", "test BLEU, beam search"),
        (axes[1], "test_perplexity", "test perplexity"),
    ):
        for number, cell in enumerate(LOOKS):
            own = {
                model["config"]["context"]: model[quality]
                for model in _of_contexts(results)
                if model["config"]["cell"] == cell
            }
            _bars(axis, contexts, own, cell, (number, len(LOOKS)))
        _name_contexts(axis, contexts)
        axis.set(ylabel=label)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=4, loc="outside upper center")
    return figure


def draw_memory(results: Results) -> Any:
    """Draw what attention sees against the saving of encoder and decoder, with equal scales.

    Full: all that is stored of the states; empty: with what attention sees.
    """
    contexts = _contexts(results)
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharex=True, sharey=True)
    drawn = 0
    for axis, (part, claimed) in zip(axes, CLAIMED.items(), strict=True):
        axis.axhspan(*claimed, color="#e4e4e4", zorder=0, label="the paper's abstract")
        for number, cell in enumerate(REVERSIBLE):
            own = {
                model["config"]["context"]: saving
                for model in _of_contexts(results)
                for saving in model["savings"]
                if model["config"]["cell"] == cell
                and (saving["part"], saving["layout"]) == (part, "stream")
            }
            for kind, fill in (("stored", "full"), ("with_context", "none")):
                values = {context: saving[kind] for context, saving in own.items()}
                name = "stored" if kind == "stored" else "and what attention sees"
                places = [contexts.index(context) for context in values]
                axis.errorbar(
                    [place + 0.3 * (number - 0.5) for place in places],
                    [value["mean"] for value in values.values()],
                    yerr=[error_bars(value) for value in values.values()],
                    label=f"{NAMES[cell]}, {name}",
                    fillstyle=fill,
                    **look(cell) | {"linestyle": "none"},
                )
                drawn += len(places)
        axis.axhline(1, color="black", linewidth=0.8)
        _name_contexts(axis, contexts)
        axis.set(yscale="log", title=part)
        axis.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_yticks([0.5, 1, 2, 5, 10, 20, 50])
    axes[0].set_ylabel("saving: 32 bits a state / bits")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
    return figure if drawn else None


def _of_contexts(results: Results) -> list[dict[str, Any]]:
    """Return the models that differ in cell and context alone, which they are named by."""
    return [
        model
        for model in results["models"]
        if model["name"]
        == f"{model['config']['cell']}-{model['config']['context'].replace('+', '-')}"
    ]


def _contexts(results: Results) -> list[str]:
    """Return what attention sees in these models, in their order."""
    return list(dict.fromkeys(model["config"]["context"] for model in _of_contexts(results)))


def _name_contexts(axis: Any, contexts: list[str]) -> None:
    """Give a place to each context, from left to right."""
    axis.set_xticks(range(len(contexts)), contexts)
    axis.set(xlabel="what attention sees of the source", xlim=(-0.6, len(contexts) - 0.4))


def _bars(
    axis: Any,
    contexts: list[str],
    own: Mapping[str, Mapping[str, Any]],
    cell: str,
    place: tuple[int, int],
) -> None:
    """Draw a cell's bars, beside those of others."""
    number, count = place
    width = 0.8 / count
    axis.bar(
        [contexts.index(c) + (number - (count - 1) / 2) * width for c in own],
        [value["mean"] for value in own.values()],
        width,
        yerr=[error_bars(value) for value in own.values()],
        label=NAMES[cell],
        color=LOOKS[cell][0],
        hatch=HATCHES[cell],
        edgecolor="white",
    )
