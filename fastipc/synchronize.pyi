"""fastipc.synchronize is the module multiprocessing.synchronize itself."""

from multiprocessing.synchronize import *
from multiprocessing.synchronize import (
    Barrier as Barrier,
    SemLock as SemLock,
    __all__ as __all__,
)
