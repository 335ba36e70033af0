"""The list of all operations on fastipc's objects that the crash tool kills."""

from __future__ import annotations

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
    QueueGetNextRing,
    QueueGetWaking,
    QueuePut,
    QueuePutGrowing,
    QueuePutLarge,
    QueuePutWaking,
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

OPERATIONS: tuple[type[Operation], ...] = (
    QueuePut,
    QueuePutLarge,
    QueuePutGrowing,
    QueuePutWaking,
    QueuePutRecovery,
    QueueGet,
    QueueGetLarge,
    QueueGetNextRing,
    QueueGetWaking,
    QueueGetRecovery,
    QueueAttachRecovery,
    JoinableQueuePut,
    JoinableQueueGet,
    JoinableQueueTaskDone,
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
