"""fastipc.dummy is the module multiprocessing.dummy itself."""

from multiprocessing.dummy import *
from multiprocessing.dummy import (
    Array as Array,
    DummyProcess as DummyProcess,
    Namespace as Namespace,
    Value as Value,
    __all__ as __all__,
    shutdown as shutdown,
)
