"""The chart: for each case, how far everybody is ahead of multiprocessing.

Owns what is drawn. matplotlib is imported when something is drawn, and is an extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastipc._bench.cases import CASES
from fastipc._bench.results import Results, better

BASE = "multiprocessing"
SUFFIXES = (".svg", ".png")

# One for each of the others, in the order of their names; the candidate's own stands out.
MARKERS = "ovs^DPX<>*hdp8"
OURS = "#d62728"
BASES = "#444444"


class PlotError(Exception):
    """Nothing can be drawn; the text says why, and what to do about it."""


def check(path: Path) -> None:
    """Raise PlotError if a chart cannot be drawn into this file, before there is one."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(f"{path}: a chart is an .svg or a .png file")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlotError(
            f"drawing needs matplotlib, which cannot be imported ({error}): pip install matplotlib"
        ) from error


def draw(path: Path, results: Results, candidate: str, caption: str) -> None:
    """Draw the cases that have numbers of multiprocessing's. Raises PlotError, OSError."""
    check(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    leads = {case: _leads(results, case) for case in results.rounds if case in CASES}
    leads = {case: found for case, found in leads.items() if found}
    if not leads:
        raise PlotError(f"there is nothing to draw: no case has a number of {BASE}'s")
    others = sorted({peer for found in leads.values() for peer in found} - {candidate, BASE})
    # The same input gives the same file: no date, and no names by chance.
    with rc_context({"svg.hashsalt": "fastipc", "font.size": 9, "svg.fonttype": "path"}):
        figure = Figure(figsize=(9, 1.6 + 0.34 * len(leads)), layout="constrained")
        _fill(figure.add_subplot(), leads, candidate, others)
        figure.supxlabel(caption, fontsize=7, color=BASES)
        options: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
        figure.savefig(path, format=path.suffix[1:].lower(), dpi=150, **options)


def _leads(results: Results, case: str) -> dict[str, float]:
    base = results.number(case, BASE)
    if not base:
        return {}
    numbers = {peer: results.number(case, peer) for peer in results.rounds[case]}
    return {peer: better(CASES[case], number, base) for peer, number in numbers.items() if number}


def _fill(
    axes: Any, leads: dict[str, dict[str, float]], candidate: str, others: Sequence[str]
) -> None:
    places = range(len(leads))
    for index, peer in enumerate(others):
        points = [(found[peer], y) for y, found in zip(places, leads.values()) if peer in found]
        axes.scatter(
            *zip(*points),
            marker=MARKERS[index % len(MARKERS)],
            s=22,
            color=f"C{index % 10 if index % 10 != 3 else 10}",
            alpha=0.75,
            linewidths=0,
            label=peer,
        )
    ours = [(found[candidate], y) for y, found in zip(places, leads.values()) if candidate in found]
    if ours:
        axes.hlines([y for _, y in ours], 1, [x for x, _ in ours], color=OURS, alpha=0.3)
        axes.scatter(*zip(*ours), marker="o", s=60, color=OURS, label=candidate, zorder=3)
        for x, y in ours:
            axes.annotate(f"{x:.3g}x", (x, y), (0, 6), textcoords="offset points", ha="center")
    axes.axvline(1, color=BASES, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}x")
    axes.set_yticks(places, list(leads))
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.06)
    axes.grid(axis="x", alpha=0.25)
    axes.set_title(f"times as good as {BASE} (right of the line: better)", fontsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
