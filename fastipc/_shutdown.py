"""ShutDown, which put() and get() raise behind Queue.shutdown(); nothing else."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 13):
    from queue import ShutDown as ShutDown
else:

    class ShutDown(Exception):
        """Raised by put() and get() when the queue has been shut down."""

    # Where users find it; module queue has it from Python 3.13 on.
    ShutDown.__module__ = "fastipc.queues"

__all__ = ["ShutDown"]
