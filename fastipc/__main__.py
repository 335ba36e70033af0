"""The command line: ``python -m fastipc COMMAND``.

Owns the choice of the command and nothing else; each command lives in its own module, which adds
its arguments to the parser and runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fastipc import demo
from fastipc._bench import command as bench


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `run` in its result is the command's function."""
    parser = argparse.ArgumentParser(
        prog="python -m fastipc",
        description="fastipc: multiprocessing's queues and pipes over shared memory.",
    )
    parser.add_argument("--version", action=_PrintVersion)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_command(commands)
    bench.add_command(commands)
    return parser


class _PrintVersion(argparse.Action):
    """Looks the version up when it is asked for: package metadata is slow to read."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import fastipc

        print("fastipc", getattr(fastipc, "__version__", "(version unknown)"))
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # what a shell reports for a program that SIGINT ended
    except BrokenPipeError:
        # Whoever read our output has left (`| head`). Nobody is there to be told, and the
        # interpreter's own flush at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
