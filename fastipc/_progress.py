"""Progress of a long command: a bar where there is a terminal and `rich`, plain lines elsewhere.

Owns what the user sees on stderr while something runs. Results are not its business: they go to
stdout, by whoever has them.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

REFRESH_SECONDS = 0.1


class Progress:
    """One stage at a time: `start()` it, `advance()` it, and `finish()` it with a line to keep.

    No thread draws the bar: the commands that use it fork, and measure CPU time. It is redrawn
    from `advance()`, at most ten times a second.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._bar: Any = None if plain or not sys.stderr.isatty() else _rich_bar()
        self._task: Any = None
        self._done = 0
        self._next_refresh = 0.0

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, title: str, total: int | None) -> None:
        """Begin a stage of `total` steps; None: nobody knows how many."""
        self._done = 0
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total)
            self._bar.refresh()

    def advance(self, steps: int = 1) -> None:
        """Note that `steps` more are done; cheap enough to be called for every message."""
        self._done += steps
        if self._bar is None:
            return
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + REFRESH_SECONDS
            self._bar.update(self._task, completed=self._done)
            self._bar.refresh()

    def finish(self, line: str) -> None:
        """End the stage and leave `line` behind."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.remove_task(self._task)
            self._bar.console.print(line, markup=False, highlight=False)


def _rich_bar() -> Any:
    """Return rich's progress display, or None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        return None
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
