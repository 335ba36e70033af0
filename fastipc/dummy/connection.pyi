"""fastipc.dummy.connection is the module multiprocessing.dummy.connection itself."""

from multiprocessing.dummy.connection import *
from multiprocessing.dummy.connection import (
    Connection as Connection,
    __all__ as __all__,
    families as families,
)
