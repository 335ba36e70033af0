"""fastipc.process is the module multiprocessing.process itself."""

from multiprocessing.process import *
from multiprocessing.process import (
    __all__ as __all__,
)
