"""Instructions a message, by whose code they are: fastipc's program under valgrind's callgrind.

Owns how callgrind is run and how its dumps are read.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.costs import program
from benchmarks.costs.tools import run_tool

# Whose code it is; in this order, the first that fits.
OWNERS = ("csrc", "extension", "pickle", "interpreter", "libc", "other")

PIPE = "Pipe, bytes of 64"
DUMPS_A_KIND = 4
LIMIT_SECONDS = 300.0

# A name is written out where it first stands, and then only its number; calls use the same
# numbers under names of their own.
_NAME = re.compile(r"^c?(ob|fl|fi|fe|fn)=(?:\((\d+)\))?(?: ?(.*))?$")
_COST = re.compile(r"^(?:[+-]?\d+|\*) (\d+)$")


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Count, for each kind of message, what a put and a get take, by owner and in "all".

    What the loops around the calls take is left out. Raises ToolError.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind")
        run_tool(
            [
                "valgrind",
                "--tool=callgrind",
                "--dump-before=getppid",
                f"--callgrind-out-file={out}",
            ],
            ["instructions"],
            LIMIT_SECONDS,
        )
        # Each mark ends a dump, the first of them the one of all that came before.
        dumps = [read_dump(Path(f"{out}.{number}").read_text()) for number in range(1, _last(out))]
    results = {}
    for index, kind in enumerate([*program.KINDS, PIPE]):
        _, loop, put, get = dumps[DUMPS_A_KIND * index : DUMPS_A_KIND * (index + 1)]
        results[kind] = {"put": _a_message(put, loop), "get": _a_message(get, loop)}
    return results


def _last(out: Path) -> int:
    """Return one more than the number of dumps that the marks made."""
    marks = DUMPS_A_KIND * (len(program.KINDS) + 1)
    found = len(list(out.parent.glob(f"{out.name}.*")))
    if found < marks:
        raise AssertionError(f"callgrind left {found} dumps where {marks} marks were passed")
    return marks + 1


def _a_message(all_of_it: Counter[str], loop: Counter[str]) -> dict[str, float]:
    costs = {owner: (all_of_it[owner] - loop[owner]) / program.COUNT for owner in OWNERS}
    return {**costs, "all": sum(costs.values())}


def read_dump(text: str) -> Counter[str]:
    """Sum up the costs in a dump of callgrind by owner."""
    names: dict[tuple[str, str], str] = {}
    binary = source = ""
    costs: Counter[str] = Counter()
    of_a_call = False
    for line in text.splitlines():
        if line.startswith("calls="):
            of_a_call = True  # the next line is what the callee took, which stands there too
        elif named := _NAME.match(line):
            what, number, name = named.groups()
            space = "fl" if what in ("fl", "fi", "fe") else what
            if number is not None:
                name = names.setdefault((space, number), name)
            if line.startswith("ob="):
                binary = name
            elif line.startswith(("fl=", "fi=", "fe=")):
                source = name
        elif cost := _COST.match(line):
            if not of_a_call:
                costs[owner_of(binary, source)] += int(cost[1])
            of_a_call = False
    return costs


def owner_of(binary: str, source: str) -> str:
    """Say whose code it is that stands in this source file of this binary."""
    if "/fastipc/_core." in binary:
        return "csrc" if "csrc/" in source else "extension"
    if "_pickle" in binary or source.endswith("/_pickle.c"):
        return "pickle"
    if "python" in binary:
        return "interpreter"
    if re.search(r"/(libc|libpthread|libm|ld-linux)[-.]", binary):
        return "libc"
    return "other"
