"""Takes measurements: a fresh driver for each, warmed up, with a time limit.

Owns how many messages a lap has and how many laps make a measurement. What a lap does is the
case's business.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, median_low
from types import TracebackType
from typing import Any

from fastipc._bench import peers
from fastipc._bench.case import Lap
from fastipc._bench.cases import CASES
from fastipc._bench.driver import Line

# Where the package lies: the drivers take the same fastipc as this process.
ROOT = Path(__file__).resolve().parents[2]

# A lap that takes longer is given up: a peer that hangs must not stop the others.
LAP_TIMEOUT_SECONDS = 60.0
# What is measured lasts about this long in all, in one lap or in several.
MEASURED_SECONDS = 1.0
MOST_LAPS = 10
# What a library leaves outside of processes has a name that begins like this.
SCRATCH_PREFIX = "fbench"
# How long a driver that has been told to end may take for it.
ORDERLY_SECONDS = 5.0
# A measurement shorter than this is for tests; it need not have the number that a case asks about.
SERIOUS_SECONDS = 0.5


class MeasurementError(Exception):
    """There is no number: `kind` is "absent", "failed" or "hung"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Settings:
    """What holds for all measurements of one invocation."""

    start_method: str = "fork"
    seconds: float = MEASURED_SECONDS
    lap_timeout_seconds: float = LAP_TIMEOUT_SECONDS


class Session:
    """A driver with its processes, for one case on one peer; use it in a `with` statement."""

    def __init__(self, case_name: str, peer_name: str, settings: Settings) -> None:
        self._arguments = [case_name, peer_name, settings.start_method]
        limit = CASES[case_name].lap_timeout_seconds
        self._timeout = min(settings.lap_timeout_seconds, limit)
        self._next_number = 0

    def __enter__(self) -> Session:
        ours, theirs = socket.socketpair()
        ours.settimeout(self._timeout)
        self._line = Line(ours)
        self._errors = tempfile.TemporaryFile()
        # Its name is part of every name that a library gives to something outside of processes.
        self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        self._driver = subprocess.Popen(
            [
                *(sys.executable, "-m", "fastipc._bench.driver"),
                *(str(theirs.fileno()), *self._arguments, str(self._scratch)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._line.close()
        if not self._ended_in_order(kind):
            # The driver leads a session of its own, so this reaches its children too, whatever
            # state they are in. Nothing outlives a measurement.
            os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()
        self._errors.close()
        peers.clean_up(self._scratch)

    def _ended_in_order(self, kind: type[BaseException] | None) -> bool:
        """Let the driver end by itself, where that matters.

        Other start methods than fork have named semaphores, which are removed at an orderly end
        by the driver, or by a helper that is in its session.
        """
        if kind is not None or self._arguments[2] == "fork":
            return False
        try:
            self._driver.wait(ORDERLY_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def prepare(self, count: int, *, check_all: bool = False) -> None:
        """Have the messages of the next lap made. Raises MeasurementError."""
        lap = Lap(self._next_number, count, check_all)
        self._next_number += count  # no lap repeats the values of another
        self._ask(asdict(lap))

    def go(self) -> dict[str, Any]:
        """Do the lap that was prepared and return its result. Raises MeasurementError."""
        return self._ask({"go": True})

    def warm_up(self, seconds: float) -> int:
        """Do two laps to warm up; the result is the count for laps of about so many seconds."""
        case = CASES[self._arguments[0]]
        self.prepare(case.first_count, check_all=True)
        count = self._count_for(seconds, self.go())
        if case.first_count == case.most_count:
            return count
        if case.fixed_count is not None and seconds >= SERIOUS_SECONDS:
            return case.fixed_count
        self.prepare(max(count // 4, case.first_count))
        return self._count_for(seconds, self.go())

    def _count_for(self, seconds: float, result: dict[str, Any]) -> int:
        case = CASES[self._arguments[0]]
        wanted: int = round(seconds * result["count"] / result["seconds"])
        return min(max(wanted, case.first_count), case.most_count)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._line.send(message)
            answer = self._line.receive()
        except TimeoutError as error:
            raise MeasurementError("hung", f"no answer in {self._timeout:.0f} s") from error
        except (EOFError, ConnectionError) as error:
            raise MeasurementError("failed", self._last_words()) from error
        for kind, key in (("absent", "absent"), ("failed", "error")):
            if key in answer:
                raise MeasurementError(kind, answer[key])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the driver died"


def measure(case_name: str, peer_name: str, settings: Settings) -> dict[str, Any]:
    """Take one measurement in fresh processes.

    The result has `value` (that of the median lap) and the medians of whatever other numbers the
    case gives, `laps` (all that each of them told), and over all laps `count`, `seconds`,
    `cpu_seconds` and `cpu_us_each`, the CPU time of all parts for a message. Raises
    MeasurementError.
    """
    with Session(case_name, peer_name, settings) as session:
        count = session.warm_up(settings.seconds)
        laps: list[dict[str, Any]] = []
        while not laps or (
            sum(lap["seconds"] for lap in laps) < 0.9 * settings.seconds and len(laps) < MOST_LAPS
        ):
            session.prepare(count)
            laps.append(session.go())
    count = sum(lap["count"] for lap in laps)
    cpu_seconds = sum(lap["cpu_seconds"] for lap in laps)
    numbers = {
        key: median(lap[key] for lap in laps)
        for key, number in laps[0].items()
        if isinstance(number, int | float) and key not in ("count", "seconds", "cpu_seconds")
    }
    return {
        **numbers,
        "value": median_low(lap["value"] for lap in laps),
        "count": count,
        "seconds": sum(lap["seconds"] for lap in laps),
        "cpu_seconds": cpu_seconds,
        "cpu_us_each": cpu_seconds / count * 1e6,
        "laps": laps,
    }
