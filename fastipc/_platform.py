"""Says whether this machine can run fastipc: system, kernel, C library, /proc, built extension.

Owns the oldest versions and the one line that the user gets; it is called once, at import, and
costs a few system calls.  It does not load the extension.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

# Linux 4.14 has MADV_WIPEONFORK, the newest call that the core needs; sealed memory files (3.17)
# and open file description locks (3.15) are older.
OLDEST_KERNEL = (4, 14)
# glibc 2.28: the oldest with all the wrappers, and that of the manylinux_2_28 wheels.
OLDEST_GLIBC = (2, 28)


def check() -> None:
    """Raise ImportError, with a line that names the remedy, where fastipc cannot work."""
    obstacle = find_obstacle(
        system=sys.platform,
        kernel=os.uname().release if hasattr(os, "uname") else "",
        libc=_libc_version(),
        has_proc=os.path.exists("/proc/self/fd"),
        has_extension=_has_extension(),
    )
    if obstacle is not None:
        raise ImportError(f"fastipc cannot run here: {obstacle}", name="fastipc")


def find_obstacle(
    *, system: str, kernel: str, libc: str, has_proc: bool, has_extension: bool
) -> str | None:
    """The first thing that is in the way, with what mends it, or None.

    `libc` is what confstr says ("glibc 2.36"), or "" for another C library, such as musl: that is
    not refused, but it is not tested either.
    """
    if system != "linux":
        return f"it needs Linux, and this is {system}: use a Linux machine, container or WSL 2"
    if _version(kernel) < OLDEST_KERNEL:
        return (
            f"the kernel calls itself Linux {kernel}: "
            f"upgrade it to {_dotted(OLDEST_KERNEL)} or newer"
        )
    name, _, number = libc.partition(" ")
    if name == "glibc" and _version(number) < OLDEST_GLIBC:
        return (
            f"the C library is glibc {number}: "
            f"use a system with glibc {_dotted(OLDEST_GLIBC)} or newer"
        )
    if not has_proc:
        return "/proc is not mounted: mount it (mount -t proc proc /proc)"
    if not has_extension:
        return (
            f"there is no fastipc/_core{EXTENSION_SUFFIXES[0]}, the extension for this Python: "
            f"run 'pip install .' in {os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}"
        )
    return None


def _libc_version() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def _has_extension() -> bool:
    # Beside this file, under one of the few names that this interpreter loads.
    stem = os.path.join(os.path.dirname(__file__), "_core")
    return any(os.path.exists(stem + suffix) for suffix in EXTENSION_SUFFIXES)


def _version(text: str) -> tuple[int, ...]:
    """The leading two numbers of a version; one that cannot be read counts as new."""
    numbers = text.split("-", 1)[0].split(".")[:2]
    try:
        return tuple(int(number) for number in numbers)
    except ValueError:
        return (sys.maxsize,)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
