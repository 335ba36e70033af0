"""Queues and pipes of every size work without /dev/shm, and with very little of it."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import run_script

PROGRAM = """
import os, sys
import fastipc

def child(queue, conn):
    for size in (0, 100, 10_000, 2**20, 2**25):
        queue.put(b"x" * size)
        conn.send_bytes(b"y" * size)

if __name__ == "__main__":
    if sys.argv[1] == "none":
        assert not os.path.exists("/dev/shm")
    else:
        assert os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize == 2**20
    queue = fastipc.Queue()
    left, right = fastipc.Pipe()
    process = fastipc.get_context("fork").Process(target=child, args=(queue, right))
    process.start()
    for size in (0, 100, 10_000, 2**20, 2**25):
        assert queue.get(timeout=20) == b"x" * size
        assert left.recv_bytes() == b"y" * size
    process.join()
    tasks = fastipc.JoinableQueue(3)
    simple = fastipc.SimpleQueue()
    for each in (tasks, simple):
        each.put([1, 2, 3])
        assert each.get() == [1, 2, 3]
    tasks.task_done()
    tasks.join()
    print("works", process.exitcode)
"""

NAMESPACES = {
    # /dev becomes an empty folder with the devices that an interpreter needs.
    "none": """
        mount --make-rprivate / && mount -t tmpfs tmpfs /mnt &&
        touch /mnt/null /mnt/urandom && mount --bind /dev/null /mnt/null &&
        mount --bind /dev/urandom /mnt/urandom && mount --move /mnt /dev && exec "$@"
    """,
    "one MiB": """
        mount --make-rprivate / && mount -t tmpfs -o size=1M tmpfs /dev/shm && exec "$@"
    """,
}


def mount_namespaces_are_allowed():
    """Whether this user may make a mount namespace and mount in it."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not mount_namespaces_are_allowed(), reason="needs the right to mount")
@pytest.mark.parametrize("name", NAMESPACES)
def test_everything_works_in_a_mount_namespace_where_dev_shm_is(name):
    prefix = ["unshare", "-m", "sh", "-c", NAMESPACES[name], "sh"]
    assert run_script(PROGRAM, name, prefix=prefix) == (0, "works 0\n", "")


@pytest.mark.skipif(not mount_namespaces_are_allowed(), reason="needs the right to mount")
def test_nothing_is_created_in_dev_shm():
    # In a namespace with a /dev/shm of its own, so that nobody else's files are seen.
    program = """
import ctypes, os
import fastipc

libc = ctypes.CDLL(None)
IN_CREATE = 0x100
fd = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(fd, b"/dev/shm", IN_CREATE) >= 0
queue = fastipc.Queue()
for size in (0, 10, 100_000, 10**7):
    queue.put(b"x" * size)
    assert len(queue.get()) == size
left, right = fastipc.Pipe()
left.send(1)
assert right.recv() == 1
try:
    print("created:", os.read(fd, 10_000))
except BlockingIOError:
    print("nothing was created")
"""
    prefix = ["unshare", "-m", "sh", "-c", NAMESPACES["one MiB"], "sh"]
    assert run_script(program, prefix=prefix) == (0, "nothing was created\n", "")
