"""Makes the figures of docs/reliability.md of kept results. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import replace
from tests.support import ROOT

from . import commits
from .tools import TOOLS, Tool, with_seed

PAGE = ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).parent / "results"
BEGIN = "<!-- figures of the last full run -->"
SHOWN_FAILURES = 20


def keep(folders: Iterable[Path], results: Path = RESULTS) -> list[str]:
    """Copies what runs have left into the kept results, in a small form; returns the names."""
    kept = []
    for folder in folders:
        for tool in TOOLS:
            path = folder / f"{tool.name}.json"
            if not path.exists():
                continue
            found = json.loads(path.read_text(encoding="utf-8"))
            found["failures"] = [str(failure)[:2000] for failure in found.get("failures", [])]
            results.mkdir(exist_ok=True)
            target = results / f"{tool.name}.json"
            target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            kept.append(tool.name)
    return kept


def read(results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The kept results, by the tool's name."""
    return {
        tool.name: json.loads((results / f"{tool.name}.json").read_text(encoding="utf-8"))
        for tool in TOOLS
        if (results / f"{tool.name}.json").exists()
    }


def made_of(results: dict[str, dict[str, Any]], said: dict[str, Any] | None = None) -> str:
    """What stands between the markers; `said`: by git, of the results' commits."""
    top = commits.sentences(results, said or {})
    parts = [_part(tool, results.get(tool.name)) for tool in TOOLS]
    return "\n\n".join([top, *parts] if top else parts)


def write(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Puts the figures into the page."""
    text = page.read_text(encoding="utf-8")
    found = read(results)
    commits.keep(found, results)
    made = made_of(found, commits.kept(results))
    page.write_text(replace(text, BEGIN, made, page), encoding="utf-8")


def _part(tool: Tool, found: dict[str, Any] | None) -> str:
    heading = f"### {tool.title}"
    if found is None:
        return f"{heading}\n\n`{tool.full}`: **not run yet**."
    lines = [
        heading,
        "",
        f"`{with_seed(found['command'], found)}`, {_when(found)}{_verdict(found)}",
    ]
    if found["rows"]:
        lines += ["", *table(found["rows"])]
    if found["failures"]:
        lines += ["", *(f"* `{_cell(each)[:300]}`" for each in found["failures"][:SHOWN_FAILURES])]
    return "\n".join(lines)


def _when(found: dict[str, Any]) -> str:
    seconds = float(found["seconds"])
    took = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} minutes"
    where = found.get("where", "")
    return f"{found.get('date', 'no date').partition('T')[0]}, {took}" + (
        f", {where}: " if where else ": "
    )


def _verdict(found: dict[str, Any]) -> str:
    count = len(found["failures"])
    if count:
        return f"**{count} failure{'s' if count > 1 else ''}**."
    if found.get("exit", 0) != 0:
        return f"**ended with {found['exit']}**."
    if found.get("left") == []:
        return "no failure, and no process and no name in `/dev/shm` was left."
    return "no failure."


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table in Markdown: each column that any row has, numbers to the right, sums below."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numbers = {
        name for name in columns if all(isinstance(row.get(name, 0), int | float) for row in rows)
    }
    lines = [
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---:" if name in numbers else "---" for name in columns) + " |",
    ]
    lines += [
        "| " + " | ".join(_cell(row.get(name, "-")) for name in columns) + " |" for row in rows
    ]
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")
