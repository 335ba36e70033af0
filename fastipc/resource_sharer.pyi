"""fastipc.resource_sharer is the module multiprocessing.resource_sharer itself."""

from multiprocessing.resource_sharer import *
from multiprocessing.resource_sharer import (
    __all__ as __all__,
)
