"""No room: MemoryError that names the limit, nothing lost, and the queue stays usable."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from tests.support import run_script

# Each program limits itself, fills a queue until MemoryError, and checks what is left.
FILL = """
import os, resource, sys
import fastipc

def fill(queue, size, most):
    '''How many items fit; the text of the error that ended it, if any.'''
    put = 0
    try:
        while put < most:
            queue.put(put.to_bytes(8, "little") * (size // 8))
            put += 1
    except MemoryError as error:
        return put, str(error)
    return put, ""

def drain(queue, count, size):
    assert queue.qsize() == count, (queue.qsize(), count)
    for number in range(count):
        item = queue.get(timeout=20)
        assert len(item) == size and item[:8] == number.to_bytes(8, "little")
        del item
    assert queue.empty()
    queue.put("usable")
    assert queue.get(timeout=20) == "usable"
"""


def run_limited(program, *args):
    """The output of a program after FILL, which must end well."""
    code, out, err = run_script(FILL + textwrap.dedent(program), *args)
    assert (code, err) == (0, ""), f"{code}\n{out}\n{err}"
    return out


@pytest.mark.parametrize("size", [1000, 2**20])
def test_a_limit_of_the_size_of_files_is_a_memory_error_that_names_it(size):
    out = run_limited(
        f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        queue = fastipc.Queue()
        for _ in range(2):
            put, text = fill(queue, {size}, 100_000)
            assert put * {size} > 4 * 2**20, put
            drain(queue, put, {size})
        print(text)
        """
    )
    assert "RLIMIT_FSIZE" in out


@pytest.mark.parametrize("size", [1000, 2**20])
def test_a_limit_of_the_address_space_is_a_memory_error_that_names_it(size):
    out = run_limited(
        f"""
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = used + 200 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        queue = fastipc.Queue()
        for _ in range(2):
            put, text = fill(queue, {size}, 1_000_000)
            assert put, put
            drain(queue, put, {size})
        print(text)
        """
    )
    assert "RLIMIT_AS" in out


def test_an_object_larger_than_a_limit_is_a_memory_error_and_nothing_else_happens():
    out = run_limited(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        queue = fastipc.Queue()
        queue.put("before")
        try:
            queue.put(b"x" * (64 * 2**20))
        except MemoryError as error:
            print(error)
        queue.put("after")
        assert [queue.get(), queue.get()] == ["before", "after"]
        """
    )
    assert "RLIMIT_FSIZE" in out


def test_a_message_larger_than_a_limit_streams_through_a_pipe():
    out = run_limited(
        """
        import threading
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        left, right = fastipc.Pipe()
        item = b"x" * (64 * 2**20)
        sender = threading.Thread(target=left.send_bytes, args=(item,))
        sender.start()
        assert right.recv_bytes() == item
        sender.join()
        print("streamed")
        """
    )
    assert out == "streamed\n"


V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


def make_memory_cgroup(limit_bytes):
    """A new memory cgroup, of version 1 or 2, whichever is here; None if that is not allowed."""
    name = f"fastipc-test-{os.getpid()}"
    if (V1 / "memory.limit_in_bytes").exists():
        group, limit = V1 / name, "memory.limit_in_bytes"
    elif (V2 / "cgroup.controllers").exists():
        group, limit = V2 / name, "memory.max"
    else:
        return None
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / limit).write_text(str(limit_bytes))
    except OSError:
        group.rmdir()
        return None
    return group


@pytest.fixture
def memory_cgroup():
    """A memory cgroup of 64 MiB."""
    group = make_memory_cgroup(64 * 2**20)
    if group is None:
        pytest.skip("needs the right to make a memory cgroup")
    yield group
    group.rmdir()


@pytest.mark.parametrize("size", [1000, 2**20])
def test_the_limit_of_the_memory_cgroup_is_a_memory_error_that_names_it(memory_cgroup, size):
    out = run_limited(
        f"""
        open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
        queue = fastipc.Queue()
        for _ in range(2):
            put, text = fill(queue, {size}, 1_000_000)
            assert put * {size} > 10 * 2**20, put
            drain(queue, put, {size})
        print(text)
        """,
        str(memory_cgroup),
    )
    assert "cgroup" in out


def test_the_limit_of_an_ancestor_of_the_memory_cgroup_counts(memory_cgroup):
    inner = memory_cgroup / "inner"
    inner.mkdir()
    try:
        out = run_limited(
            """
            open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
            queue = fastipc.Queue()
            put, text = fill(queue, 2**20, 1000)
            drain(queue, put, 2**20)
            print(text)
            """,
            str(inner),
        )
    finally:
        inner.rmdir()
    assert "cgroup" in out
