"""The list of all operations on fastipc's objects that the crash tool kills."""

from __future__ import annotations

from .close_operations import QueueClose, QueueCloseViews
from .operation import Operation
from .pipe_operations import (
    PipeRecv,
    PipeRecvFragmented,
    PipeSend,
    PipeSendFragmented,
    PipeSendWaking,
)
from .queue_operations import (
    JoinableQueueGet,
    JoinableQueuePut,
    JoinableQueueTaskDone,
    QueueGet,
    QueueGetLarge,
    QueueGetMany,
    QueueGetNextRing,
    QueueGetWaking,
    QueuePut,
    QueuePutGrowing,
    QueuePutLarge,
    QueuePutMany,
    QueuePutManyGrowing,
    QueuePutWaking,
    QueueShutdown,
    QueueShutdownNow,
    QueueShutdownWaking,
    SimpleQueueGet,
    SimpleQueuePut,
)
from .recovery_operations import (
    PipeRecvRecovery,
    PipeSendRecovery,
    QueueAttachRecovery,
    QueueGetRecovery,
    QueuePutRecovery,
)
from .view_operations import QueueForkViews, QueueGetViews, QueuePutViews

OPERATIONS: tuple[type[Operation], ...] = (
    QueuePut,
    QueuePutLarge,
    QueuePutGrowing,
    QueuePutMany,
    QueuePutManyGrowing,
    QueuePutWaking,
    QueuePutViews,
    QueuePutRecovery,
    QueueGet,
    QueueGetLarge,
    QueueGetMany,
    QueueGetNextRing,
    QueueGetWaking,
    QueueGetViews,
    QueueForkViews,
    QueueGetRecovery,
    QueueAttachRecovery,
    JoinableQueuePut,
    JoinableQueueGet,
    JoinableQueueTaskDone,
    QueueShutdown,
    QueueShutdownNow,
    QueueShutdownWaking,
    QueueClose,
    QueueCloseViews,
    SimpleQueuePut,
    SimpleQueueGet,
    PipeSend,
    PipeSendFragmented,
    PipeSendWaking,
    PipeSendRecovery,
    PipeRecv,
    PipeRecvFragmented,
    PipeRecvRecovery,
)
