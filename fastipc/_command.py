"""What the commands of ``python -m fastipc`` share: the check of a number, and how they fail."""

from __future__ import annotations

import argparse
import sys


def positive(text: str) -> int:
    """Return the number that an argument of the command line stands for; it must be 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def fail(command: str, status: int, message: str) -> int:
    """Say on standard error why a command has failed; return the exit status."""
    sys.stdout.flush()
    print(f"python -m fastipc {command}: {message}", file=sys.stderr)
    return status
