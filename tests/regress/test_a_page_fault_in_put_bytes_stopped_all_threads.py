"""put_bytes() of some KiB read the caller's memory with the GIL held. Where a thread of the same
process serves the page faults of that memory, as for a file of a file system in user space, it hung
for ever.
"""

from __future__ import annotations

import pytest

from tests import support

SCRIPT = """
import ctypes, fcntl, mmap, os, struct, sys, threading
import fastipc

BYTES, PAGE = 20_000, 4096
USERFAULTFD, O_CLOEXEC = 323, 0o2000000
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03

queue = fastipc.Queue()
queue.put_bytes(b"x" * BYTES)  # a block is free from here on
queue.get_bytes()
libc = ctypes.CDLL(None, use_errno=True)
faults = libc.syscall(USERFAULTFD, O_CLOEXEC)
if faults < 0:
    print(os.strerror(ctypes.get_errno()))
    sys.exit(3)
fcntl.ioctl(faults, UFFDIO_API, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
memory = mmap.mmap(-1, 8 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(faults, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", address, 8 * PAGE, 1, 0)))
page = ctypes.create_string_buffer(b"y" * PAGE, PAGE)

def serve():
    while True:
        at = struct.unpack_from("Q", os.read(faults, 32), 16)[0] & ~(PAGE - 1)
        copy = struct.pack("QQQQq", at, ctypes.addressof(page), PAGE, 0, 0)
        fcntl.ioctl(faults, UFFDIO_COPY, bytearray(copy))

threading.Thread(target=serve, daemon=True).start()
queue.put_bytes(memoryview(memory)[:BYTES])
assert queue.get_bytes() == b"y" * BYTES
print("done")
sys.stdout.flush()
os._exit(0)
"""


def test_memory_whose_faults_a_thread_serves_can_be_put() -> None:
    code, out, errors = support.run_script(SCRIPT)
    if code == 3:
        pytest.skip(f"userfaultfd: {out.strip()}")
    assert (code, out) == (0, "done\n"), errors
