"""fastipc.forkserver is the module multiprocessing.forkserver itself."""

from multiprocessing.forkserver import *
from multiprocessing.forkserver import (
    MAXFDS_TO_SEND as MAXFDS_TO_SEND,
    SIGNED_STRUCT as SIGNED_STRUCT,
    ForkServer as ForkServer,
    __all__ as __all__,
    read_signed as read_signed,
    write_signed as write_signed,
)
