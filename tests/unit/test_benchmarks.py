"""The benchmarks' own honesty: a library that cheats, fails or hangs does not get a number, and
the check says so. No speed is tested here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import check
from benchmarks.cases import CASES
from benchmarks.measure import MeasurementError, Session, Settings, measure
from benchmarks.report import Outcome
from benchmarks.rows import ROWS, Row

# A module to be imported in the place of multiprocessing, with one defect, which shows up late:
# everything before message LATE is as it should be.
DEFECTIVE = """
import multiprocessing

LATE = 50

class Defective:
    def __init__(self, genuine):
        self._genuine = genuine
        self._count = 0
        self._kept = None

    def __getattr__(self, name):
        return getattr(self._genuine, name)

    def _is_late(self):
        self._count += 1
        return self._count == LATE

    def get(self):
        message = self._genuine.get()
        return {get} if self._is_late() else message

    def recv(self):
        message = self._genuine.recv()
        return {get} if self._is_late() else message

    def recv_bytes_into(self, buffer, offset=0):
        size = self._genuine.recv_bytes_into(buffer, offset)
        if self._is_late():
            {into}
        return size

class Context:
    def __init__(self, method):
        self._context = multiprocessing.get_context(method)

    def Queue(self, maxsize=0):
        return Defective(self._context.Queue(maxsize))

    def Pipe(self, duplex=True):
        return tuple(map(Defective, self._context.Pipe(duplex)))

get_context = Context
"""

QUICK = Settings(seconds=0.001)


@pytest.fixture
def defective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported by the drivers and has no defect yet."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return str(tmp_path / "defective.py")


def write(path: str, *, get: str = "message", into: str = "pass") -> str:
    text = DEFECTIVE.replace("{get}", get).replace("{into}", into)
    Path(path).write_text(text)
    return Path(path).stem


@pytest.mark.parametrize("case", CASES)
def test_each_case_gives_numbers_for_multiprocessing(case: str) -> None:
    result = measure(case, "multiprocessing", QUICK)
    assert result["value"] > 0
    assert result["seconds"] > 0
    assert result["cpu_seconds"] > 0
    assert result["count"] >= CASES[case].first_count


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_processes_can_be_started_otherwise(method: str) -> None:
    settings = Settings(start_method=method, seconds=0.001)
    for case in ("queue-1MiB", "pipe-64B-roundtrip-p50", "queue-create-close"):
        assert measure(case, "multiprocessing", settings)["value"] > 0


def test_no_lap_repeats_the_values_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    with Session("queue-int", "multiprocessing", QUICK) as session:
        genuine = session._ask
        monkeypatch.setattr(
            session, "_ask", lambda message: asked.append(message) or genuine(message)
        )
        session.warm_up(0)
        session.prepare(1000)
        session.go()
    laps = [
        range(each["start"], each["start"] + each["count"]) for each in asked if "start" in each
    ]
    assert len(laps) == 3
    numbers = [number for lap in laps for number in lap]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("case", "get"),
    [
        ("queue-int", "message + 1"),
        ("queue-tuple", "message[:2] + (-1.0,)"),
        ("queue-int", "self._genuine.get()"),  # one message is lost
        ("queue-1MiB", "message[:-1]"),
        ("queue-1MiB", "message[:-1] + b'?'"),
        ("queue-1MiB", "message[:500000] + b'?' + message[500001:]"),
        ("queue-1MiB", "self._genuine.get()"),
        ("pipe-1MiB", "bytes(len(message))"),
    ],
)
def test_a_wrong_message_gives_no_number(case: str, get: str, defective: str) -> None:
    name = write(defective, get=get)
    with pytest.raises(MeasurementError, match="WrongMessageError") as raised:
        measure(case, name, QUICK)
    assert raised.value.kind == "failed"


@pytest.mark.parametrize(
    ("case", "into"),
    [
        ("pipe-64B-throughput", "buffer[offset + 9] ^= 1"),
        ("pipe-64B-throughput", "self._genuine.recv_bytes_into(buffer, offset)"),
        ("pipe-64B-roundtrip-p50", "buffer[8] = (buffer[8] + 1) % 256"),
        ("pipe-1MiB-into", "buffer[0] ^= 1"),
        ("pipe-1MiB-into", "buffer[777_777] ^= 1"),
    ],
)
def test_a_wrong_buffer_gives_no_number(case: str, into: str, defective: str) -> None:
    name = write(defective, into=into)
    settings = Settings(seconds=0.001, lap_timeout_seconds=3)
    with pytest.raises(MeasurementError) as raised:
        measure(case, name, settings)
    # Where a message is lost, the last one never comes.
    assert raised.value.kind == ("hung" if "recv_bytes_into" in into else "failed")


def test_a_part_that_dies_is_reported(defective: str) -> None:
    name = write(defective, get="__import__('os')._exit(7)")
    with pytest.raises(MeasurementError, match="failed: part 1 died"):
        measure("queue-int", name, QUICK)


def test_a_peer_that_is_not_there_is_absent() -> None:
    with pytest.raises(MeasurementError, match="no_such_peer") as raised:
        measure("queue-int", "no_such_peer", QUICK)
    assert raised.value.kind == "absent"


@pytest.mark.parametrize(
    ("case", "ours", "theirs", "ratio"),
    [("queue-int", 1200.0, 100.0, 12.0), ("pipe-64B-roundtrip-p50", 2.0, 20.0, 10.0)],
)
def test_a_ratio_above_one_is_always_better(
    case: str, ours: float, theirs: float, ratio: float
) -> None:
    assert Row(case, "multiprocessing", 1).ratio(ours, theirs) == ratio


def outcome(*ratios: float | None, least: float = 3) -> Outcome:
    rounds = [
        {
            "candidate": {"error": "hung"} if ratio is None else {"value": ratio},
            "against": {"value": 1.0},
        }
        for ratio in ratios
    ]
    return Outcome(Row("queue-int", "multiprocessing", least), "fastipc", rounds)


def test_a_row_is_met_by_its_median_and_only_with_all_its_numbers() -> None:
    assert outcome(2.9, 3.0, 9.0).met
    assert not outcome(2.9, 2.9, 9.0).met
    assert not outcome(9.0, 9.0, None).met
    assert not outcome().met


def test_the_check_fails_on_a_miss_and_keeps_all_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results.json"
    arguments = ["--candidate", "multiprocessing", "--rounds", "2", "--seconds", "0.001"]
    assert check.main([*arguments, "queue-int", "--json", str(kept)]) == 1
    out = capsys.readouterr().out
    assert "missed: queue-int" in out
    document = json.loads(kept.read_text())
    (row,) = document["rows"]
    assert row["met"] is False
    assert [each["first"] for each in row["rounds"]] == ["against", "candidate"]
    assert all(
        each[side]["value"] > 0 for each in row["rounds"] for side in ("against", "candidate")
    )
    assert {"cpu", "kernel", "python", "peers", "commit"} <= document["environment"].keys()


def test_the_check_reports_a_candidate_that_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--candidate", "no_such_peer", "--rounds", "1", "--seconds", "0.001"]
    assert check.main([*arguments, "queue-create-close"]) == 1
    assert "no_such_peer absent" in capsys.readouterr().out


def test_a_row_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(["queue-of-dreams"])
    assert ended.value.code == 2
    assert "queue-of-dreams" in capsys.readouterr().err


def test_every_row_has_its_case() -> None:
    assert {row.case for row in ROWS} <= CASES.keys()
    assert len({row.name for row in ROWS}) == len(ROWS)
