"""Checks the models of docs/model with spin.

    python -m tests.model                  all of them
    python -m tests.model lock wake        only these
    python -m tests.model lock --run ends  one run, with its trail if it finds an error
    python -m tests.model --json FILE      keep the results there

Needs spin and gcc. Ends with 0 only if each run found all states and no error, each run that is
broken on purpose found the error that the model says, and each statement was reached by some run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.model.models import Model, all_models
from tests.model.search import complaint, never_reached, search

TRAIL_LINES = 150


def check(model: Model, only: str | None, rows: list[dict[str, Any]]) -> list[str]:
    """Runs a model; returns what is wrong with it, and adds a row for each run."""
    wrong, results = [], {}
    for run in model.runs:
        if only not in (None, run.name):
            continue
        with tempfile.TemporaryDirectory(prefix="fastipc-model.") as folder:
            result = search(model, run, Path(folder))
        reason = complaint(run, result)
        verdict = "ok" if reason is None else "FAILED"
        found = f"  found: {result.error}" if run.error is not None and reason is None else ""
        print(
            f"{model.name:9} {run.name:28} {result.states:>9} states {result.seconds:6.1f} s "
            f"{result.mib:>5} MiB  {verdict}{found}",
            flush=True,
        )
        rows.append(
            {
                "model": model.name,
                "run": run.name,
                "broken on purpose": run.error is not None,
                "states": result.states,
                "seconds": round(result.seconds, 1),
                "found": result.error or "no error",
                "as it should be": reason is None,
            }
        )
        if reason is not None:
            wrong.append(f"{model.name}, {run.name}: {reason}")
        if result.trail and (reason is not None or only is not None):
            print("\n".join(result.trail.splitlines()[-TRAIL_LINES:]))
        if run.error is None:
            results[run] = result
    if only is None:
        wrong += [
            f"{model.name}: never reached: {place}" for place in never_reached(model, results)
        ]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of files in docs/model, without .pml")
    parser.add_argument("--run", help="only the run of this name; prints its trail")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    arguments = parser.parse_args()
    models = {model.name: model for model in all_models()}
    unknown = set(arguments.models) - set(models)
    if unknown:
        parser.error(
            f"no such model: {', '.join(sorted(unknown))} (there are: {', '.join(models)})"
        )
    if shutil.which("spin") is None:
        parser.error("there is no spin: apt install spin")
    wrong: list[str] = []
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    for name in arguments.models or models:
        wrong += check(models[name], arguments.run, rows)
    for reason in wrong:
        print(reason, file=sys.stderr)
    if arguments.json:
        kept = {
            "name": "model",
            "command": "python -m tests.model " + " ".join(sys.argv[1:]),
            "seconds": round(time.monotonic() - started, 1),
            "rows": rows,
            "failures": wrong,
        }
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
