"""What else the package has: pipes, contexts, and multiprocessing's names and modules."""

import multiprocessing
import multiprocessing.pool
from typing import Any

from typing_extensions import assert_type

import fastipc as mp
import fastipc.managers
import fastipc.pool
from fastipc.connection import Connection, wait
from fastipc.context import BaseContext, SpawnContext
from fastipc.pool import AsyncResult, Pool
from fastipc.shared_memory import SharedMemory

left, right = mp.Pipe(duplex=False, label="control")
left.send({"any": "object"})
left.send_bytes(b"bytes", 1, 2)
assert_type(right.recv_bytes(), bytes)
assert_type(right.poll(0.5), bool)
with left as entered:
    entered.close()
mp.Pipe("both")  # type: ignore[arg-type]

assert_type(mp.get_context("spawn"), SpawnContext)
assert_type(mp.get_context(), BaseContext)
assert_type(mp.get_start_method(), str)
context: multiprocessing.context.BaseContext = mp.get_context("fork")


def work(number: int) -> str:
    return str(number)


with mp.Pool(2) as pool:
    assert_type(pool, multiprocessing.pool.Pool)
    assert_type(pool.map(work, [1]), list[str])
    result: AsyncResult[str] = pool.apply_async(work, (1,))
    same: Pool = pool

process: multiprocessing.Process = mp.Process(target=work, args=(1,))
ready: list[Any] = list(wait([right, process.sentinel], timeout=0))
manager: fastipc.managers.SyncManager = mp.Manager()
block: SharedMemory = SharedMemory(create=True, size=1)
pieces: list[Connection[Any, Any]] = [left, right]
print(mp.no_such_name)  # type: ignore[attr-defined]
