"""How much memory some processes use together, with what they share counted once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of the processes, and the pages that none of them maps.

    A page of shared memory that only these processes map is counted once in all, by their PSS
    together. Pages of memory files that they have open and do not map (yet, or any more) are in
    no PSS and still taken: for each such file, what is allocated beyond its part of the PSS is
    added. What the kernel holds in pipes, sockets and message queues is not counted.
    """
    pss = 0
    mapped: dict[int, int] = {}
    allocated: dict[int, int] = {}
    for pid in set(pids):
        inode = 0
        with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "Pss:":
                    pss += int(words[1]) * 1024
                    mapped[inode] = mapped.get(inode, 0) + int(words[1]) * 1024
                elif not words[0].endswith(":"):
                    inode = int(words[4])
        allocated.update(_memory_files(pid))
    unmapped = sum(max(0, size - mapped.get(inode, 0)) for inode, size in allocated.items())
    return pss + unmapped


def _memory_files(pid: int) -> dict[int, int]:
    """Return what is allocated for each memory file that the process has open, by its inode."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{name}")
            status = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if path.startswith(("/memfd:", "/dev/shm/")) and stat.S_ISREG(status.st_mode):
            found[status.st_ino] = status.st_blocks * 512
    return found
