"""fastipc.popen_forkserver is the module multiprocessing.popen_forkserver itself."""

from multiprocessing.popen_forkserver import *
from multiprocessing.popen_forkserver import (
    __all__ as __all__,
)
