"""fastipc.shared_memory is the module multiprocessing.shared_memory itself."""

from multiprocessing.shared_memory import *
from multiprocessing.shared_memory import (
    __all__ as __all__,
)
