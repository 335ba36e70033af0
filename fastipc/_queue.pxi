# _queue.pxi - the hot methods of the queues: put, get and what they need. Names, start
# methods, pickling of the queue itself and multiprocessing's manners are queues.py's.

cdef class QueueBase:
    """What Queue and JoinableQueue share with every process that has them."""

    cdef fipc_queue *queue
    cdef bint closed
    cdef bint used
    cdef int inside         # calls of this process that released the GIL
    cdef list stash         # messages whose object could not be made for want of memory
    cdef object __weakref__

    def _create(self, uint64_t maxsize, uint64_t max_bytes, bytes label):
        """Make a new queue; once."""
        cdef fipc_queue_config config
        cdef int rc
        config.maxsize = maxsize
        config.max_bytes = max_bytes
        config.label = NULL if label is None else PyBytes_AS_STRING(label)
        rc = fipc_queue_create(&config, &self.queue)
        if rc < 0:
            raise_status(rc, self)

    def _open(self, int fd, int doorbell):
        """Attach to the queue behind two descriptors, which belong to this object then."""
        cdef int rc = fipc_queue_open(fd, doorbell, &self.queue)
        if rc == -EINVAL or rc == -EBADF:
            raise OSError(-rc, f"descriptors {fd} and {doorbell} are not those of a fastipc queue")
        if rc < 0:
            raise_status(rc, self)

    def __dealloc__(self):
        if self.queue != NULL:
            fipc_queue_close(self.queue)
            self.queue = NULL

    # ---- entering and leaving without the GIL ----

    cdef int enter(self) except -1:
        if self.closed:
            raise ValueError(f"Queue {self!r} is closed")
        if self.queue == NULL:
            raise ValueError(f"Queue {self!r} was never initialised")
        self.inside += 1
        return 0

    cdef void leave(self) noexcept:
        self.inside -= 1
        if self.closed and self.inside == 0:
            fipc_queue_detach(self.queue)

    cdef int fail(self, int rc) except -1:
        if rc == -ECANCELED:
            raise ValueError(f"Queue {self!r} is closed")
        raise_status(rc, self)

    # ---- put ----

    def put(self, obj, block=True, timeout=None):
        """Put obj into the queue, pickled in this call.

        Once it returns, the item survives this process.  If the queue is full, waits: for ever, for
        `timeout` seconds, or not at all with block=False; then raises Full.  Raises ValueError when
        the queue is closed, MemoryError when there is no memory left (nothing is lost), and whatever
        pickling obj raises.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Queue.put
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef message out
        cdef int64_t deadline = FIPC_FOREVER
        if self.closed or self.queue == NULL:
            self.enter()
        if not block:
            deadline = 0
        elif timeout is not None:
            deadline = deadline_after(timeout)
        try:
            keep = encode(obj, scratch, &out)
        except Exception as error:
            if not self._pickling_failed(error, obj):
                raise
            return
        if out.size <= FIPC_INLINE_MAX and fipc_queue_try_put(
            self.queue, out.data, <uint32_t>out.size, out.tag
        ) == 0:
            return
        self.put_slow(&out, deadline)

    def _pickling_failed(self, error, obj):
        """Return whether a subclass has dealt with an error of pickling; put() raises it if not."""
        return False

    cdef int put_slow(self, message *out, int64_t deadline) except -1:
        cdef fipc_queue_putting putting
        cdef int rc
        memset(&putting, 0, sizeof(putting))
        self.used = True
        self.enter()
        try:
            while True:
                with nogil:
                    rc = fipc_queue_put(
                        self.queue, out.data, out.size, out.tag, deadline, &putting
                    )
                if rc != -EINTR:
                    break
                check_signals()
        finally:
            with nogil:
                fipc_queue_put_end(self.queue, &putting)
            self.leave()
        if rc == 0:
            return 0
        if rc == -ETIMEDOUT:
            raise Full
        if rc == -E2BIG:
            raise ValueError(
                f"a message of {out.size} bytes can never fit into {self!r}: its max_bytes is "
                f"{self.queue.segment.header.max_bytes}"
            )
        return self.fail(rc)

    def put_nowait(self, obj):
        """The same as put(obj, False)."""
        return self.put(obj, False)

    # ---- get ----

    def get(self, block=True, timeout=None):
        """Take the oldest item out of the queue and return it.

        If there is none, waits: for ever, for `timeout` seconds, or not at all with block=False; then
        raises Empty.  Raises ValueError when the queue is closed, and whatever unpickling the item
        raises: that item is then gone, the next one is intact.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Queue.get
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef fipc_got got
        cdef int64_t deadline = FIPC_FOREVER
        if self.closed or self.queue == NULL:
            self.enter()
        if not block:
            deadline = 0
        elif timeout is not None:
            deadline = deadline_after(timeout)
        if self.stash:
            return self.unstash()
        got.buffer = scratch
        got.buffer_bytes = SCRATCH_BYTES
        if fipc_queue_try_get(self.queue, &got) != 0:
            self.get_slow(&got, deadline)
        if got.block.shm == NULL:
            return decode(scratch, got.size_bytes, got.tag)
        return self.decode_block(&got)

    cdef int get_slow(self, fipc_got *got, int64_t deadline) except -1:
        cdef fipc_waiting waiting
        cdef int rc
        memset(&waiting, 0, sizeof(waiting))
        self.used = True
        self.enter()
        try:
            while True:
                with nogil:
                    rc = fipc_queue_get(self.queue, got, deadline, &waiting)
                if rc != -EINTR:
                    break
                check_signals()
        finally:
            self.leave()
        if rc == 0:
            return 0
        if rc == -ETIMEDOUT:
            raise Empty
        return self.fail(rc)

    cdef object decode_block(self, fipc_got *got):
        """The object of a message that lies in a block, which is given back."""
        cdef bytes data
        self.used = True
        try:
            data = copy_out(got.block.data, got.size_bytes)
        except MemoryError:
            # Nothing is lost: the next get() of this object returns the message.
            stashed = StashedMessage()
            stashed.got = got[0]
            if self.stash is None:
                self.stash = []
            self.stash.append(stashed)
            raise
        self.inside += 1
        with nogil:
            fipc_queue_release(self.queue, got)
        self.leave()
        if got.tag == FASTIPC_TAG_BYTES:
            return data
        return decode(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), got.tag)

    cdef object unstash(self):
        cdef StashedMessage stashed = self.stash.pop(0)
        return self.decode_block(&stashed.got)

    def get_nowait(self):
        """The same as get(False)."""
        return self.get(False)

    # ---- looking ----

    def qsize(self):
        """Return the number of items in the queue, exact at one moment of the call."""
        cdef uint64_t items, size
        if self.queue == NULL:
            return 0
        fipc_channel_depth(&self.queue.channel, &items, &size)
        return items + (len(self.stash) if self.stash else 0)

    def empty(self):
        """Return True if there was no item in the queue at one moment of the call."""
        if self.closed and self.used:
            raise OSError("handle is closed")
        return not self.stash and (
            self.queue == NULL or fipc_channel_is_empty(&self.queue.channel)
        )

    def full(self):
        """Return True if the queue had no room for another item at one moment of the call."""
        cdef uint64_t items, size
        if self.queue == NULL:
            return False
        fipc_channel_depth(&self.queue.channel, &items, &size)
        if self.queue.segment.header.maxsize and items >= self.queue.segment.header.maxsize:
            return True
        return (self.queue.segment.header.max_bytes != 0
                and size >= self.queue.segment.header.max_bytes)

    def fileno(self):
        """Return a descriptor that is readable while there is an item; for select and its kin.

        The first call makes every put into an empty queue, from any process, write to a pipe.
        """
        cdef int rc
        self.enter()
        try:
            with nogil:
                rc = fipc_queue_fileno(self.queue)
        finally:
            self.leave()
        if rc < 0:
            self.fail(rc)
        return rc

    # ---- end ----

    def close(self):
        """Give up this object's share of the queue; other processes go on.  Never blocks."""
        if self.closed:
            return
        self.closed = True
        if self.queue != NULL:
            if self.inside == 0:
                fipc_queue_detach(self.queue)
            else:
                fipc_queue_cancel(self.queue)
        if lent_count:
            settle_lent()

    # ---- tasks; JoinableQueue's ----

    def _task_done(self):
        cdef int rc = fipc_queue_task_done(self.queue)
        if rc == -ERANGE:
            raise ValueError("task_done() called too many times")
        if rc < 0:
            self.fail(rc)

    def _join(self):
        cdef fipc_waiting waiting
        cdef int rc
        memset(&waiting, 0, sizeof(waiting))
        self.inside += 1
        try:
            while True:
                with nogil:
                    rc = fipc_queue_join(self.queue, FIPC_FOREVER, &waiting)
                if rc != -EINTR:
                    break
                check_signals()
        finally:
            self.leave()
        if rc < 0:
            self.fail(rc)

    # ---- for queues.py, the handles and the tests ----

    @property
    def _closed(self):
        return self.closed

    def _handles(self):
        """(memory file, doorbell): descriptors that stay this object's."""
        if self.closed or self.queue == NULL:
            raise ValueError(f"Queue {self!r} is closed")
        if fipc_segment_fd_is_ours(&self.queue.segment) < 0:
            raise_status(-EBADF, self)
        return self.queue.segment.fd, self.queue.doorbell_fd

    def _identity(self):
        """(segment id, inode of the memory file, inode of the doorbell)."""
        return (
            PyBytes_FromStringAndSize(<char *>self.queue.segment.header.id, 16),
            self.queue.segment.inode,
            self.queue.doorbell_inode,
        )

    def _lend(self):
        """Count one pickle of this queue that is under way."""
        fipc_fetch_add_seqcst(&self.queue.segment.header.lent, 1)

    def _claim(self):
        """Count one pickle of this queue that has arrived."""
        fipc_fetch_add_seqcst(&self.queue.segment.header.claimed, 1)

    def _has_claims_open(self):
        """True while pickles of this queue are under way."""
        cdef fipc_header_shm *header = self.queue.segment.header
        return fipc_load_seqcst(&header.claimed) < fipc_load_seqcst(&header.lent)

    def _limits(self):
        """(maxsize, max_bytes, label); 0 for no limit."""
        if self.queue == NULL:
            return 0, 0, ""
        header = self.queue.segment.header
        return header.maxsize, header.max_bytes, header.label.decode("utf-8", "replace")

    def _attach(self):
        """Take this process's place among those attached now, rather than with the first use."""
        cdef int rc = fipc_channel_enter(&self.queue.channel)
        if rc < 0:
            self.fail(rc)

    def _check(self):
        """Check every record and block; for tests.  See debug_check()."""
        self.enter()
        try:
            return check_segment(&self.queue.segment, [<size_t>&self.queue.channel])
        finally:
            self.leave()


cdef class StashedMessage:
    cdef fipc_got got
