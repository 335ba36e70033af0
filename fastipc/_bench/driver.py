"""One case on one peer, in this process and one child for each part.

Started by `measure`, with which it talks over a socket, a line of JSON at a time: laps are asked
for and results are given back until the other side hangs up. What is measured shares nothing with
that socket. Run as ``python -m fastipc._bench.driver SOCKET CASE PEER START_METHOD SCRATCH``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import selectors
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from fastipc._bench import peers
from fastipc._bench.case import Case, Lap
from fastipc._bench.cases import CASES
from fastipc._bench.payloads import WrongMessageError

PR_SET_PDEATHSIG = 1


class Line:
    """One end of a socket on which whole messages are exchanged."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._lines = end.makefile("rb")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return the next message. Raises EOFError when the other side is gone."""
        line = self._lines.readline()
        if not line:
            raise EOFError("the other side has left")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self.socket.close()


class PartError(Exception):
    """A part reported an error, or died; the text says which."""


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_part(case_name: str, index: int, channel: Any, end: socket.socket) -> None:
    """Be one part: do the laps that the driver asks for."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Line(end)
    try:
        part = CASES[case_name]().parts()[index](channel)
        while True:
            try:
                lap = line.receive()
            except EOFError:
                return
            part.prepare(Lap(**lap))
            # The messages of the lap are many, and no garbage: keep the collector off them.
            gc.collect()
            gc.freeze()
            line.send({})
            line.receive()
            cpu_start = time.process_time()
            line.send(part.run())
            line.receive()
            cpu_seconds = time.process_time() - cpu_start
            line.send({"cpu_seconds": cpu_seconds, **part.verify()})
    except BaseException as error:
        traceback.print_exc()
        line.send({"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)


class Parts:
    """The driver's view of the processes that do the parts."""

    def __init__(self, case: Case, channel: Any, start_method: str, master: Line) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self._case = case
        self._master = master
        self._lines: list[Line] = []
        self._processes = []
        for index, _ in enumerate(case.parts()):
            ours, theirs = socket.socketpair()
            process = context.Process(
                target=run_part, args=(case.name, index, channel, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._lines.append(Line(ours))
            self._processes.append(process)

    def prepare(self, lap: Lap) -> None:
        """Have every part make its messages."""
        self._ask(vars(lap))

    def run(self, lap: Lap) -> dict[str, Any]:
        """Have every part do the lap, and return the result."""
        measured = self._ask({"go": True})
        # CPU time is asked for when all are done: threads behind a part may work on after it.
        for part, used in zip(measured, self._ask({"go": False}), strict=True):
            part.update(used)
        try:
            self._case.check(lap, measured)
        except WrongMessageError as error:
            raise PartError(f"all parts together: {type(error).__name__}: {error}") from error
        return {
            **self._case.combine(lap, measured),
            "count": lap.count,
            "cpu_seconds": sum(part["cpu_seconds"] for part in measured),
            "parts": measured,
        }

    def end(self) -> None:
        """End the processes; they have nothing left to do, or are stuck."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _ask(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Send the message to all parts and return their answers. Raises PartError, EOFError."""
        for line in self._lines:
            line.send(message)
        answers: list[dict[str, Any]] = [{} for _ in self._lines]
        with selectors.DefaultSelector() as selector:
            for index, line in enumerate(self._lines):
                selector.register(line.socket, selectors.EVENT_READ, index)
            selector.register(self._master.socket, selectors.EVENT_READ)
            while len(selector.get_map()) > 1:
                for key, _ in selector.select():
                    if key.data is None:
                        raise EOFError("the measurement was given up")
                    try:
                        answer = self._lines[key.data].receive()
                    except (EOFError, ConnectionError) as error:
                        raise PartError(f"part {key.data} died") from error
                    if "error" in answer:
                        raise PartError(f"part {key.data}: {answer['error']}")
                    answers[key.data] = answer
                    selector.unregister(key.fileobj)
        return answers


def main(arguments: list[str]) -> None:
    """Serve laps until the other side hangs up."""
    descriptor, case_name, peer_name, start_method, scratch = arguments
    die_with_parent()
    master = Line(socket.socket(fileno=int(descriptor)))
    case = CASES[case_name]()
    try:
        peer = peers.load(peer_name, start_method, Path(scratch))
        channel = case.open(peer)
    except peers.UnsupportedError as error:
        master.send({"absent": str(error)})
        return
    except Exception as error:
        traceback.print_exc()
        master.send({"error": f"{type(error).__name__}: {error}"})
        return
    parts = Parts(case, channel, start_method, master)
    case.close(channel)
    try:
        while True:
            lap = Lap(**master.receive())
            parts.prepare(lap)
            master.send({})
            master.receive()
            master.send(parts.run(lap))
    except PartError as error:
        master.send({"error": str(error)})
    except (EOFError, ConnectionError):
        pass
    finally:
        parts.end()


if __name__ == "__main__":
    main(sys.argv[1:])
