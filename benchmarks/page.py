"""``python -m benchmarks.page RESULT.json``: what the documents show, made of a kept result.

Writes the table between its markers in README.md, that of the marks that were missed in
docs/performance.md, and the chart docs/benchmarks.svg. With ``--scaling RESULT.json`` instead, the
table in docs/performance.md of what more CPUs bring; with ``--growth RESULT.json``, that of what
does not grow. Nothing in them is typed by hand, and no case of the result is left out. A result
whose rows are not what its numbers give, or with settings that no program keeps, is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import growth, report
from benchmarks.report import Outcome, moves_arrays
from benchmarks.rows import MIX_PARTS, ROWS, chosen
from fastipc._bench import environment, plot, results as kept_results
from fastipc._bench.cases import CASES
from fastipc._bench.results import Results, best_other, better, shown

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- benchmark table -->"
BEGIN_MISSED = "<!-- missed marks -->"
BEGIN_SCALING = "<!-- scaling -->"
BEGIN_GROWTH = "<!-- growth -->"
END = "<!-- end -->"
# What benchmarks.check and `python -m fastipc bench` keep of how they measured.
SETTINGS = (
    "start_method",
    "seconds",
    "lap_timeout_seconds",
    "seconds_of",
    "rounds",
    "candidate",
    "chosen",
)
# What is shown of a case beside its value, where it has that: of all of these less is better.
BESIDE = {
    "p99_us": ("the same, p99", "us"),
    "p99.9_us": ("the same, p99.9", "us"),
    "memory_mib": ("the same, memory of all processes while all wait", "MiB"),
}


class PageError(Exception):
    """The document cannot be written; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them; the result is the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description="Make README's table and the chart of what benchmarks.check has kept.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("result", metavar="RESULT.json", type=Path, nargs="?")
    source.add_argument("--scaling", metavar="RESULT.json", type=Path)
    source.add_argument("--growth", metavar="RESULT.json", type=Path)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--missed", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "benchmarks.svg")
    options = parser.parse_args(arguments)
    try:
        if options.scaling is not None:
            write_scaling(options.scaling, options.missed)
        elif options.growth is not None:
            write_growth(options.growth, options.missed)
        else:
            write_all(options)
    except (OSError, ValueError, PageError, plot.PlotError) as error:
        print(f"python -m benchmarks.page: {error}", file=sys.stderr)
        return 1
    return 0


def write_all(options: argparse.Namespace) -> None:
    """Write all that is made of a result of benchmarks.check. Raises OSError, or what is wrong."""
    results, kept = kept_results.read(options.result)
    check_settings(kept, options.result)
    check_rows(results, kept, options.result)
    candidate = kept["settings"].get("candidate", "fastipc")
    caption = environment.caption(kept["environment"])
    text = options.readme.read_text(encoding="utf-8")
    replaced = replace(text, BEGIN, table(results, kept, candidate), options.readme)
    text = options.missed.read_text(encoding="utf-8")
    missed = replace(text, BEGIN_MISSED, missed_table(kept), options.missed)
    plot.draw(options.chart, results, candidate, caption)
    options.readme.write_text(replaced, encoding="utf-8")
    options.missed.write_text(missed, encoding="utf-8")


def write_scaling(result: Path, document: Path) -> None:
    """Write the table of a result of `python -m fastipc bench --json` on a larger machine."""
    results, kept = kept_results.read(result)
    check_settings(kept, result)
    made = table(results, kept, kept["settings"].get("candidate", "fastipc"))
    text = document.read_text(encoding="utf-8")
    document.write_text(replace(text, BEGIN_SCALING, made, document), encoding="utf-8")


def write_growth(result: Path, document: Path) -> None:
    """Write the table of what benchmarks.growth has kept. Raises OSError, or what is wrong."""
    kept = json.loads(result.read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or "growth" not in kept or kept.get("schema") != growth.SCHEMA:
        raise PageError(f"{result} is no result of this version's benchmarks.growth")
    text = document.read_text(encoding="utf-8")
    made = growth_table(kept)
    document.write_text(replace(text, BEGIN_GROWTH, made, document), encoding="utf-8")


def growth_table(kept: dict[str, Any]) -> str:
    """Return the table of what may not grow in Markdown, with where its numbers come from."""
    lines = ["| compared | times as long | rounds | at most |", "| --- | ---: | ---: | ---: |"]
    for each in kept["growth"]:
        ratios = each["ratios"]
        most = "-" if each["most"] is None else f"{each['most']:g}x"
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(f"| {each['what']} | {median(ratios):.2f}x | {span} | {most} |")
    date = kept["environment"]["date"].partition("T")[0]
    note = (
        f"{date}, {environment.caption(kept['environment'])}; medians of "
        f"{kept['settings']['rounds']} rounds. {growth.NOISE:g}x is the bound of the noise, and "
        "no cost that is allowed: what it stands at is to be no slower."
    )
    return "\n".join([*lines, "", note])


def check_settings(kept: dict[str, Any], path: Path) -> None:
    """Raise PageError if a result has settings that no program keeps."""
    unknown = [key for key in kept["settings"] if key not in SETTINGS]
    if unknown:
        raise PageError(f"{path} has settings that nothing here writes: {', '.join(unknown)}")


def check_rows(results: Results, kept: dict[str, Any], path: Path) -> None:
    """Raise PageError if the rows of a result are not what its numbers and today's marks give."""
    rows = kept.get("rows")
    if rows is None:
        raise PageError(f"{path} has no rows: it is no result of benchmarks.check")
    settings = kept["settings"]
    outcomes = [
        Outcome(row, settings.get("candidate", "fastipc"), results)
        for row in chosen(settings.get("chosen", []))
    ]
    due = {row["row"]: row for row in report.kept(outcomes)}
    found = {row["row"]: row for row in rows}
    differ = [name for name in {**due, **found} if due.get(name) != found.get(name)]
    if differ or len(found) != len(rows):
        raise PageError(
            f"{path}: its rows are not those that its results and benchmarks/rows.py give: "
            f"{', '.join(differ) or 'some are there twice'}"
        )


def table(results: Results, kept: dict[str, Any], candidate: str) -> str:
    """Return the table in Markdown, with where its numbers come from."""
    lines = [
        f"| case | unit | {candidate} | multiprocessing | | best other | |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    # Parts of a mixture tell nothing by themselves.
    parts = set(MIX_PARTS) - {row.case for row in ROWS}
    for case in results.rounds:
        if case in CASES and case not in parts:
            lines.append(_line(results, case, candidate))
            lines += [
                _line(results, case, candidate, key)
                for key in BESIDE
                if results.number(case, candidate, key) is not None
            ]
    where = environment.caption(kept["environment"])
    versions = ", ".join(
        f"{name} {version}"
        for name, version in kept["environment"]["peers"].items()
        if version and name != candidate
    )
    date = kept["environment"]["date"].partition("T")[0]
    note = (
        f"{date}, {where}; {_how(kept['settings'])}. The factors say how many times better "
        f"{candidate} is: below 1x it loses."
    )
    few = [row["case"] for row in kept.get("rows", []) if row["among"]]
    if few:
        note += f" Of the others, only the nearest were measured in {', '.join(few)}."
    return "\n".join([*lines, "", note + (f" Compared with {versions}." if versions else "")])


def _how(settings: dict[str, Any]) -> str:
    """Return how long was measured, and how often."""
    text = f"medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s"
    others = [f"{case} {seconds:g} s" for case, seconds in settings.get("seconds_of", {}).items()]
    return text + (f" ({', '.join(others)})" if others else "")


def missed_table(kept: dict[str, Any]) -> str:
    """Return the table of the rows of benchmarks.check that were not met, in Markdown."""
    missed = [row for row in kept.get("rows", []) if not row["met"] and row["least_ratio"]]
    if not missed:
        return "None."
    lines = ["| case | compared with | mark | seen |", "| --- | --- | ---: | ---: |"]
    for row in missed:
        what = row["case"] if row["key"] == "value" else f"{row['case']}, {row['key']}"
        seen = "-" if row["median_ratio"] is None else f"{row['median_ratio']:.3g}x"
        lines.append(f"| {what} | {row['compared_with']} | {row['target']} | {seen} |")
    return "\n".join(lines)


def _line(results: Results, case: str, candidate: str, key: str = "value") -> str:
    raw = [peer for peer in results.rounds[case] if not moves_arrays(peer)]
    leave_out = raw if case.startswith("numpy") else []
    summary, unit = BESIDE.get(key, (CASES[case].summary, CASES[case].unit))
    ours = results.number(case, candidate, key)
    best = best_other(results, case, candidate, leave_out, key)
    rivals = [_rival(results, case, ours, best, key)]
    if leave_out:
        # Raw memory, whose type was agreed on before, is shown, and shown as such.
        others = {candidate, *results.rounds[case]} - set(raw)
        raw_best = best_other(results, case, candidate, others, key)
        if raw_best is not None:
            rivals.append(_rival(results, case, ours, raw_best, key, "raw memory: "))
    stdlib = results.number(case, "multiprocessing", key)
    cells = [
        summary,
        unit,
        results.cell(case, candidate, key),
        results.cell(case, "multiprocessing", key),
        _factor(case, ours, stdlib, key),
        "<br>".join(name for name, _ in rivals),
        "<br>".join(factor for _, factor in rivals),
    ]
    return "| " + " | ".join(cells) + " |"


def _rival(
    results: Results, case: str, ours: float | None, peer: str | None, key: str, kind: str = ""
) -> tuple[str, str]:
    number = None if peer is None else results.number(case, peer, key)
    if peer is None or number is None:
        return "-", "-"
    return f"{kind}{peer} {shown(number)}", _factor(case, ours, number, key)


def _factor(case: str, ours: float | None, theirs: float | None, key: str) -> str:
    if ours is None or theirs is None:
        return "-"
    ahead = better(CASES[case], ours, theirs) if key == "value" else theirs / ours
    return f"{ahead:.3g}x"


def replace(text: str, begin: str, made: str, path: Path) -> str:
    """Return the document with what stands between the markers replaced. Raises PageError."""
    if text.count(begin) != 1 or END not in text.partition(begin)[2]:
        raise PageError(f"{path} has no place for the table: {begin} and, below it, {END}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{made}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
