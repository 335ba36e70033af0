"""fastipc.heap is the module multiprocessing.heap itself."""

from multiprocessing.heap import *
from multiprocessing.heap import (
    Arena as Arena,
    Heap as Heap,
    __all__ as __all__,
    rebuild_arena as rebuild_arena,
    reduce_arena as reduce_arena,
)
