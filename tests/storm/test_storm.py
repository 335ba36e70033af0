"""The storm: short ones pass, and it fails where it must: on builds of fastipc that are broken on
purpose, and on the standard library's queue.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.broken import BrokenBuilds

from . import __main__ as command, happened, messages
from .__main__ import COLUMNS, main
from .kinds import KINDS
from .scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


def storm(
    folder: Path, *scenarios: str, seconds: float, seed: str = "1", deadline: float = 20,
    candidate: str = "fastipc", root: Path = ROOT, timeout: float = 100,
    options: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Run the tool in a process of its own and return its results."""
    kept = folder / "storm.json"
    chosen = [word for name in scenarios for word in ("--scenario", name)]
    # What the tool starts ends with it, also when the timeout kills it.
    result = subprocess.run(
        [
            sys.executable, "-m", "tests.storm", *chosen, "--seconds", str(seconds),
            "--seed", seed, "--deadline", str(deadline), "--candidate", candidate,
            "--json", str(kept), *options,
        ],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )  # fmt: skip
    assert kept.exists(), result.stdout + result.stderr
    found: dict[str, Any] = json.loads(kept.read_text())
    assert result.returncode == int(bool(found["failures"])), result.stdout + result.stderr
    return found


def test_every_kind_is_stormed() -> None:
    assert {
        f"{kind}-{method}{end}"
        for kind in ("queue", "bounded", "max-bytes", "joinable")
        for method in ("fork", "spawn")
        for end in ("", "-batches")
    } | {
        "pipe-fork", "pipe-spawn", "duplex-fork", "duplex-spawn", "simple-fork", "shutdown-fork",
        "shutdown-now-fork", "queue-forkserver-batches", "joinable-forkserver",
        "duplex-forkserver", "simple-forkserver",
    } == set(SCENARIOS)  # fmt: skip
    assert {scenario.kind for scenario in SCENARIOS.values()} == set(KINDS)


@pytest.mark.watchdog(120)
@pytest.mark.parametrize(
    "scenario",
    [
        "bounded-fork-batches",
        "pipe-fork",
        "duplex-fork",
        "simple-forkserver",
        "shutdown-fork",
        "shutdown-now-fork",
    ],
)
def test_a_short_storm_costs_what_the_killed_had_in_hand(scenario: str, tmp_path: Path) -> None:
    found = storm(tmp_path, scenario, seconds=1)
    assert found["failures"] == []
    (row,) = found["rows"]
    assert row["scenario"] == scenario
    assert list(row) == list(COLUMNS)
    assert row["killed"] > 0
    assert row["messages put"] > 0
    assert row["bytes at rest"] - row["of these kept on purpose"] <= row["bytes before"]
    assert row["messages put"] == (
        row["received"] + row["left for the supervisor"] + row["missing"]
    )
    assert row["missing"] == (
        row["counted as lost"] + row["returned to a victim"] + row["given up by a shutdown"]
    )


@pytest.mark.watchdog(300)
def test_the_standard_queue_does_not_stand_it(tmp_path: Path) -> None:
    # On a crowded machine there are few kills in a second, and one of them has to harm it.
    for seed in range(10):
        found = storm(
            tmp_path, "queue-fork", seconds=4, seed=str(seed), deadline=4,
            candidate="multiprocessing",
        )  # fmt: skip
        assert found["rows"][0]["lives"] > 0
        if set(found["failures"]) - {happened.NOBODY}:
            return
    pytest.fail("it stood ten storms")


@pytest.mark.watchdog(600)
@pytest.mark.parametrize(
    ("switch", "options", "told"),
    [
        # Nobody gets on. Whoever is killed so holds a lock, if one is met.
        ("FASTIPC_BREAK_NO_TAKEOVER", ("--aim", "10"), "."),
        # Who gets finds what the place held before: no message, or one that had come already.
        ("FASTIPC_BREAK_PUBLISH_FIRST", (), "exited with 70|came 2 times|got message"),
    ],
)
def test_a_build_that_is_broken_on_purpose_is_noticed(
    switch: str, options: tuple[str, ...], told: str, broken_builds: BrokenBuilds, tmp_path: Path
) -> None:
    root = broken_builds.root(switch)
    # On a crowded machine a storm may meet nobody at the wrong moment, and proves nothing.
    for seed in range(1, 7):
        found = storm(
            tmp_path, "bounded-fork", seconds=20, seed=str(seed), deadline=4, root=root,
            options=options,
        )  # fmt: skip
        failures = set(found["failures"]) - {happened.NOBODY}
        if failures:
            assert re.search(told, "\n".join(failures)), found
            return
    pytest.fail("it was not noticed in six storms")


@pytest.mark.parametrize(("kills", "code"), [(1, 0), (0, 1)])
def test_a_storm_without_a_kill_fails(
    kills: int, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = dict.fromkeys(COLUMNS, 0) | {"scenario": "queue-fork", "by SIGTERM": kills}
    monkeypatch.setattr(command, "storm_apart", lambda *_: {"row": row, "failures": []})
    kept = tmp_path / "storm.json"
    assert main(["--scenario", "queue-fork", "--seconds", "1", "--json", str(kept)]) == code
    assert json.loads(kept.read_text())["failures"] == [happened.NOBODY] * code


def test_the_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(SCENARIOS)


@pytest.mark.parametrize("size", [0, 1, 4096, 70_000])
@pytest.mark.parametrize(
    "shape", [messages.as_tuple, messages.as_bytes, messages.as_nested, messages.as_parcel]
)
def test_a_message_tells_its_sender_its_number_and_whether_it_is_whole(
    shape: Any, size: int
) -> None:
    payload = memoryview(bytes(range(256)) * (size // 256 + 1))[:size]
    checksum = messages.checksum_of(7, 11, payload)
    message = shape(7, 11, checksum, payload)
    messages.check(message)
    assert messages.identify(message) == (7, 11)
    with pytest.raises(messages.DamagedError, match="its checksum is"):
        messages.check(shape(7, 12, checksum, payload))
    with pytest.raises(messages.DamagedError, match="its checksum is"):
        messages.check(shape(7, 11, checksum, memoryview(bytes(size + 1))))


def test_a_message_without_a_payload_may_be_a_number() -> None:
    message = messages.as_int(5, 6, messages.checksum_of(5, 6, b""))
    assert message < 1 << 63
    messages.check(message)
    assert messages.identify(message) == (5, 6)
    with pytest.raises(messages.DamagedError):
        messages.check(message ^ 1 << 20)


@pytest.mark.parametrize("what", [None, b"short", (1, 2), {"from": (1, 2)}, -1])
def test_what_is_no_message_is_damage(what: Any) -> None:
    with pytest.raises(messages.DamagedError):
        messages.identify(what)
