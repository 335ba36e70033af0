# _queue.pxi - the hot methods of the queues: put, get and what they need. Names, start
# methods, pickling of the queue itself and multiprocessing's manners are queues.py's.

cdef extern from "Python.h":
    # NULL for the exception: what does not fit becomes the nearest that does.
    Py_ssize_t PyNumber_AsSsize_t(object number, void *exception) except? -1


cdef class TakenBatch


cdef class QueueBase:
    """What Queue and JoinableQueue share with every process that has them."""

    cdef fipc_queue *queue
    cdef bint closed
    cdef bint used
    cdef int inside         # calls of this process that released the GIL
    cdef bint copies        # arrays and the like are copied out of shared memory
    cdef bint custom        # serializer is in the place of codec and pickle
    cdef object serializer  # None: bytes only
    cdef list stash         # messages taken whose objects are still to be returned
    cdef TakenBatch spare_batch
    cdef uint8_t *spare_records  # of put_many(), FIPC_BATCH_BYTES, or NULL
    cdef object __weakref__

    def _configure(self, copies, serializer):
        """How messages are encoded, and what get() returns of large buffers."""
        self.copies = copies
        self.custom = serializer is not DEFAULT
        self.serializer = serializer

    def _options(self):
        """(copies, serializer), as given to _configure()."""
        return self.copies, self.serializer if self.custom else DEFAULT

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
        free(self.spare_records)

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
        if rc == -ESHUTDOWN:
            raise ShutDown
        raise_status(rc, self)

    # ---- put ----

    @cython.binding(False)
    def put(self, obj, block=True, timeout=None):
        """Put obj into the queue, pickled in this call.

        Once it returns, the item survives this process.  If the queue is full, waits: for ever, for
        `timeout` seconds, or not at all with block=False; then raises Full.  Raises ShutDown once
        the queue was shut down, also while it waits, ValueError when it is closed, MemoryError when
        there is no memory left (nothing is lost), and whatever pickling obj raises.
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
        if self.custom:
            self.put_serialized(obj, deadline)
            return
        if not encode_plain(obj, scratch, &out):
            self.put_pickled(obj, deadline)
            return
        if out.size <= FIPC_INLINE_MAX and fipc_queue_try_put(
            self.queue, out.data, <uint32_t>out.size, out.tag
        ) == 0:
            return
        self.put_slow(&out, deadline)

    def _pickling_failed(self, error, obj):
        """Return whether a subclass has dealt with an error of pickling; put() raises it if not."""
        return False

    cdef int put_pickled(self, object obj, int64_t deadline) except -1:
        """put() of what is not for the codec."""
        cdef message out
        cdef bytes pickled
        cdef list buffers = []
        try:
            pickled = pickle_with_buffers(obj, buffers)
        except Exception as error:
            if not self._pickling_failed(error, obj):
                raise
            return 0
        if buffers:
            return self.put_buffers(Layout(pickled, buffers), deadline)
        out.data = PyBytes_AS_STRING(pickled)
        out.size = PyBytes_GET_SIZE(pickled)
        out.tag = FASTIPC_TAG_PICKLE
        if out.size <= FIPC_INLINE_MAX and fipc_queue_try_put(
            self.queue, out.data, <uint32_t>out.size, out.tag
        ) == 0:
            return 0
        return self.put_slow(&out, deadline)

    cdef int put_serialized(self, object obj, int64_t deadline) except -1:
        """put() with a serializer of the user's."""
        cdef Py_buffer view
        try:
            serialize(self.serializer, obj, self, &view)
        except Exception as error:
            if not self._pickling_failed(error, obj):
                raise
            return 0
        try:
            self.put_data(view.buf, view.len, False, deadline)
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int put_data(
        self, const void *data, uint64_t size, bint is_private, int64_t deadline
    ) except -1:
        """Puts bytes as they are; is_private: of a bytes object."""
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef message out
        out.data = data
        out.size = size
        out.tag = FASTIPC_TAG_RAW
        if size <= FIPC_INLINE_MAX:
            if not is_private:
                # Under the lock no memory may be touched that could fault for long, as a
                # mapped file's might.
                memcpy(scratch, data, size)
                out.data = scratch
            if fipc_queue_try_put(self.queue, out.data, <uint32_t>size, FASTIPC_TAG_RAW) == 0:
                return 0
        return self.put_slow(&out, deadline, is_private)

    cdef int put_buffers(self, Layout layout, int64_t deadline) except -1:
        """Puts a pickle whose buffers go into blocks, copied once."""
        cdef fipc_queue_putting putting
        cdef const void *rest = layout.rest()
        cdef uint32_t rest_bytes = layout.rest_bytes(), i
        cdef bint filled = False
        cdef uint64_t total = rest_bytes
        cdef int rc
        memset(&putting, 0, sizeof(putting))
        for i in range(layout.block_count):
            total += layout.size_bytes[i]
        self.used = True
        self.enter()
        try:
            while True:
                with nogil:
                    rc = 0 if filled else fipc_queue_prepare(
                        self.queue, layout.size_bytes, layout.block_count, deadline, &putting
                    )
                if rc == 0 and not filled:
                    layout.fill(putting.block)
                    filled = True
                if rc == 0:
                    with nogil:
                        rc = fipc_queue_put_prepared(
                            self.queue, layout.size_bytes, rest, rest_bytes, FASTIPC_TAG_BUFFERS,
                            deadline, &putting
                        )
                if rc == -EOWNERDEAD:
                    filled = False
                    continue
                if rc != -EINTR:
                    break
                check_signals()
        finally:
            if not fipc_queue_put_is_done(&putting):
                with nogil:
                    fipc_queue_put_end(self.queue, &putting)
            self.leave()
        return self.put_result(rc, total)

    def put_many(self, items, block=True, timeout=None):
        """Put all items of an iterable into the queue, in their order, many under one lock.

        All are pickled before the first is put: if that raises for one of them, none is put, and the
        exception says which (its attribute item_index, from 0; and a note).  What does not fit goes in
        parts as room comes, so that items of others may stand between: waits for ever, for `timeout`
        seconds in all, or not at all with block=False; then raises Full.  Whatever exception ends the
        call has the attribute put_count, unless it takes none: so many of the first items are in the
        queue for good.  Raises ValueError when the queue is closed or one item is larger than its
        max_bytes, and MemoryError when there is no memory left.
        """
        put_all(self, items, block, timeout)

    def put_bytes(self, buf, block=True, timeout=None):
        """Put the bytes of a bytes-like object into the queue, as they are, as one item.

        For get_bytes(); get() takes them for a pickle, as Connection.recv() does.  Waits and raises
        Full as put() does.  Raises TypeError for what is not bytes-like, BufferError for what is not
        C-contiguous, ValueError when the queue is closed or they are more than its max_bytes.
        """
        if self.closed or self.queue == NULL:
            self.enter()
        put_raw(self, buf, deadline_of(block, timeout))

    cdef int put_slow(self, message *out, int64_t deadline, bint is_private=True) except -1:
        """put() of what may have to wait; not is_private: memory that might fault for long."""
        cdef fipc_queue_putting putting
        cdef int rc
        memset(&putting, 0, sizeof(putting))
        self.used = True
        self.enter()
        try:
            # To give the GIL up and take it back costs as much as a copy of a few KiB.
            if (
                is_private
                and FIPC_INLINE_MAX < out.size <= COPY_WITHOUT_GIL
                and fipc_queue_try_put_block(
                    self.queue, out.data, out.size, out.tag, &putting
                ) == 0
            ):
                return 0
            while True:
                with nogil:
                    rc = fipc_queue_put(
                        self.queue, out.data, out.size, out.tag, deadline, &putting
                    )
                if rc != -EINTR:
                    break
                check_signals()
        finally:
            if not fipc_queue_put_is_done(&putting):
                with nogil:
                    fipc_queue_put_end(self.queue, &putting)
            self.leave()
        return self.put_result(rc, out.size)

    cdef int put_result(self, int rc, uint64_t size) except -1:
        if rc == 0:
            return 0
        if rc == -ETIMEDOUT:
            raise Full
        if rc == -E2BIG:
            raise ValueError(
                f"a message of {size} bytes can never fit into {self!r}: its max_bytes is "
                f"{self.queue.segment.header.max_bytes}"
            )
        return self.fail(rc)

    def put_nowait(self, obj):
        """The same as put(obj, False)."""
        return self.put(obj, False)

    # ---- get ----

    @cython.binding(False)
    def get(self, block=True, timeout=None, *, copy=None):
        """Take the oldest item out of the queue and return it.

        If there is none, waits: for ever, for `timeout` seconds, or not at all with block=False; then
        raises Empty.  Raises ShutDown when the queue was shut down and nothing is left, also while it
        waits, ValueError when it is closed, and whatever unpickling the item raises: that item is
        then gone, the next one is intact.

        Large buffers of the item, such as NumPy arrays, lie over shared memory that is the
        receiver's own: writable, and freed with the last object that uses it, also after close().
        copy=True gives private copies in their place; None does what the queue was made with.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Queue.get
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef fipc_got got
        cdef int64_t deadline = FIPC_FOREVER
        cdef bint copies
        cdef int rc
        if self.closed or self.queue == NULL:
            self.enter()
        if not block:
            deadline = 0
        elif timeout is not None:
            deadline = deadline_after(timeout)
        # Before anything is taken: whether it is true may raise.
        copies = self.copies if copy is None else copy
        if self.stash and self.has_stash():
            return self.unstash(copies)
        got.buffer = scratch
        got.buffer_bytes = SCRATCH_BYTES
        rc = fipc_queue_try_get(self.queue, &got)
        if rc != 0:
            self.get_slow(&got, deadline, rc)
        if got.block_count == 0 and not self.custom:
            # As decode_counted() does. It counts at the last moment: whoever is killed before has
            # lost the message.
            try:
                if got.tag == FASTIPC_TAG_CODED:
                    return fastipc_decode(scratch, got.size_bytes)
                return decode(scratch, got.size_bytes, got.tag)
            finally:
                self.count_given(1)
        return self.decode_counted(&got, copies)

    cdef object decode_counted(self, fipc_got *got, bint copies):
        """The object of a message that was taken, which has then reached its caller, for stats()."""
        try:
            if got.block_count != 0:
                return self.decode_block(got, copies)
            if self.custom:
                return deserialize(
                    self.serializer, copy_out(got.buffer, got.size_bytes), got.tag, self
                )
            return decode(got.buffer, got.size_bytes, got.tag)
        finally:
            self.count_given(1)

    cdef inline void count_given(self, uint64_t items) noexcept:
        fipc_channel_count_given(&self.queue.channel, items)

    def get_many(self, max_items, block=True, timeout=None, *, copy=None):
        """Take the oldest items out of the queue, at least one, and return them as a list.

        Takes what is there, at most max_items, without waiting for more.  If there is nothing, waits:
        for ever, for `timeout` seconds, or not at all with block=False; then raises Empty.  Raises
        ValueError when max_items is less than 1 or the queue is closed, and whatever unpickling an
        item raises: that item is then gone, and the next call of this object that takes something
        returns what stood before and behind it, unless shutdown(immediate=True) has given that up.
        copy: as for get().
        """
        cdef Py_ssize_t most = PyNumber_AsSsize_t(max_items, NULL)
        if most < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items}")
        return get_all(
            self, most, deadline_of(block, timeout), self.copies if copy is None else copy
        )

    def get_bytes(self, block=True, timeout=None):
        """Take the oldest item out of the queue and return its bytes: what put_bytes() was given.

        Of an item of put() they are its pickle, for which nothing of it is unpickled.  Waits and
        raises as get() does.
        """
        if self.closed or self.queue == NULL:
            self.enter()
        return get_raw(self, deadline_of(block, timeout))

    def get_bytes_into(self, buf, offset=0, block=True, timeout=None):
        """Take the oldest item and write its bytes into a writable buffer, from `offset` (bytes) on.

        Returns how many they are.  Waits and raises as get_bytes() does; BufferTooShort with all of
        the item's bytes in args[0] if they do not fit, the item is then gone.  Raises TypeError for
        what is not a writable C-contiguous buffer, ValueError for an offset outside of it.
        """
        if self.closed or self.queue == NULL:
            self.enter()
        return get_raw_into(self, buf, offset, deadline_of(block, timeout))

    cdef int get_slow(self, fipc_got *got, int64_t deadline, int rc) except -1:
        """Goes on where fipc_queue_try_get() said rc."""
        cdef fipc_waiting waiting
        memset(&waiting, 0, sizeof(waiting))
        if rc == -EAGAIN and deadline != 0:
            # Now, so as not to come back for it, with the GIL, from a wait that does not spin.
            check_signals()
            waiting.is_fresh = 1
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

    cdef object decode_block(self, fipc_got *got, bint copies):
        """The object of a message that lies in blocks, which are given back or become views."""
        cdef bytes data
        cdef object text = None
        self.used = True
        if self.custom and self.serializer is not None:
            return self.decode_serialized(got, take_held(self.queue, got), copies)
        if got.tag == FASTIPC_TAG_BUFFERS and not self.custom:
            return self.decode_buffers(got, take_held(self.queue, got), copies)
        check_one_block(self, got)
        # Counted in: a close() in another thread must not take the block away meanwhile.
        self.inside += 1
        try:
            if got.tag == FASTIPC_TAG_ASCII and not self.custom:
                text = copy_out_ascii(got.block.data, got.size_bytes)
            else:
                data = copy_out(got.block.data, got.size_bytes)
            if got.size_bytes <= COPY_WITHOUT_GIL and fipc_arena_keeps(
                &self.queue.segment, COPY_WITHOUT_GIL
            ):
                fipc_queue_release(self.queue, got)
            else:
                with nogil:
                    fipc_queue_release(self.queue, got)
        except MemoryError:
            self.put_aside(got, None)
            raise
        except:
            release_block(self, got)
            raise
        finally:
            self.leave()
        if text is not None:
            return text
        if self.serializer is None:
            return deserialize(None, data, got.tag, self)
        if got.tag == FASTIPC_TAG_BYTES:
            return data
        return decode(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), got.tag)

    cdef object decode_buffers(self, fipc_got *got, list held, bint copies):
        """The object of a pickle whose buffers lie in blocks."""
        cdef list buffers = []
        cdef object pickled
        try:
            pickled = decode_views(got, held, buffers, copies or fipc_hold_bytes() > view_limit)
        except MemoryError:
            self.put_aside(got, held)
            raise
        held = None
        return unpickle(pickled, buffers)

    cdef object decode_serialized(self, fipc_got *got, list held, bint copies):
        """What the user's serializer makes of a message in a block."""
        cdef Held first = held[0]
        cdef object view
        check_tag(got.tag, self)
        view = view_of(first, 0, first.size_bytes)
        if copies or fipc_hold_bytes() > view_limit:
            try:
                view = copy_of(view)
            except MemoryError:
                self.put_aside(got, held)
                raise
        first = held = None
        return deserialize(self.serializer, view, got.tag, self)

    cdef int put_aside(self, fipc_got *got, list held) except -1:
        """Keeps a message for the next get() of this object, as the first: nothing is lost."""
        cdef StashedMessage stashed = StashedMessage()
        stashed.payload = PyBytes_FromStringAndSize(<char *>got.buffer, got.length)
        stashed.held = held
        stashed.got = got[0]
        stashed.got.buffer = PyBytes_AS_STRING(stashed.payload)
        self.stash_first(stashed)
        # Whoever made it fail counts it now, and whoever returns it once more.
        self.count_given(<uint64_t>-1)
        return 0

    cdef int stash_first(self, object kept) except -1:
        """What the next get() of this object returns first."""
        if self.stash is None:
            self.stash = []
        self.stash.insert(0, kept)
        return 0

    cdef object unstash(self, bint copies):
        cdef StashedMessage stashed
        if isinstance(self.stash[0], TakenBatch):
            return unstash_object(self, self.stash[0], copies)
        stashed = self.stash[0]
        if stashed.before:
            return stashed.before.pop(0)
        del self.stash[0]
        try:
            if stashed.held is None:
                return self.decode_block(&stashed.got, copies)
            if self.custom:
                return self.decode_serialized(&stashed.got, stashed.held, copies)
            return self.decode_buffers(&stashed.got, stashed.held, copies)
        finally:
            self.count_given(1)

    cdef bint has_stash(self) except -1:
        """True if something was taken that is still to be returned.

        Once the queue is closed it is not, and its memory is not there any more; nor once an
        immediate shutdown was seen: that gives up what nobody has been given.
        """
        if not self.stash or self.closed:
            return False
        if fipc_queue_shut_state(self.queue) != 2:
            return True
        self.give_up_stash()
        return False

    cdef int give_up_stash(self) except -1:
        """Frees it, and marks it as done, which nobody else could: join() waits for what was taken."""
        cdef list stash = self.stash
        cdef Py_ssize_t items = count_stashed(stash)
        cdef StashedMessage stashed
        cdef TakenBatch taken
        self.stash = None
        # Objects that end here may close the queue.
        self.inside += 1
        try:
            for one in stash:
                if isinstance(one, TakenBatch):
                    taken = one
                    self.count_given(taken.many.items - taken.many.items_read)
                    fipc_many_drop(&self.queue.channel, &taken.many, taken.many.items)
                    taken.made.clear()
                    continue
                stashed = one
                self.count_given(1)
                if stashed.held is None:
                    with nogil:
                        fipc_queue_release(self.queue, &stashed.got)
            while items > 0 and fipc_queue_task_done(self.queue) == 0:
                items -= 1
        finally:
            self.leave()
        return 0

    def _forget_taken(self):
        """Drop what this process has taken and not returned; in a forked child, whose it is not."""
        self.stash = self.spare_batch = None

    def get_nowait(self):
        """The same as get(False)."""
        return self.get(False)

    # ---- looking ----

    def qsize(self):
        """Return the number of items in the queue, exact at one moment of the call."""
        cdef uint64_t items, size
        if self.queue == NULL:
            return 0
        fipc_queue_depth(self.queue, &items, &size)
        return items + (count_stashed(self.stash) if self.has_stash() else 0)

    def empty(self):
        """Return True if there was no item in the queue at one moment of the call."""
        if self.closed and self.used:
            raise OSError("handle is closed")
        return not self.has_stash() and (
            self.queue == NULL or fipc_queue_is_empty(self.queue)
        )

    def full(self):
        """Return True if the queue had no room for another item at one moment of the call."""
        cdef uint64_t items, size
        if self.queue == NULL:
            return False
        fipc_queue_depth(self.queue, &items, &size)
        if self.queue.segment.header.maxsize and items >= self.queue.segment.header.maxsize:
            return True
        return (self.queue.segment.header.max_bytes != 0
                and size >= self.queue.segment.header.max_bytes)

    def fileno(self):
        """Return a descriptor that is readable while there is an item, or once the queue was shut
        down; for select and its kin.

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

    def _stats(self):
        """The fields of _stats.Stats."""
        self.enter()
        try:
            return channel_stats(&self.queue.channel, self)
        finally:
            self.leave()

    # ---- end ----

    def shutdown(self, immediate=False):
        """Say in all processes that nothing more is put: put() raises ShutDown from now on, and so
        does get() once the queue is empty; who is blocked in either learns of it, too.

        immediate=True: what is queued is given up, get() raises at once, and join() waits only for
        the items that were taken.  Waits for nobody.  May be called again, also to make an earlier
        one immediate.  Raises ValueError when the queue is closed; close() is something else.
        https://docs.python.org/3/library/queue.html#queue.Queue.shutdown
        """
        cdef bint now = bool(immediate)
        cdef int rc
        self.used = True
        self.enter()
        try:
            while True:
                with nogil:
                    rc = fipc_queue_shutdown(self.queue, now)
                if rc != -EINTR:
                    break
                check_signals()
            self.has_stash()
        finally:
            self.leave()
        if rc < 0:
            self.fail(rc)

    @property
    def is_shutdown(self):
        """True once some process has called shutdown()."""
        return self.queue != NULL and fipc_queue_shut_state(self.queue) != 0

    def close(self):
        """Give up this object's share of the queue; other processes go on.  Never blocks."""
        if self.closed:
            return
        self.closed = True
        # What lies over the queue's memory would keep it.
        self.stash = None
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
                # Behind a shutdown by others it may be what is waited for.
                self.has_stash()
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
        fipc_segment_lend(&self.queue.segment)

    def _claim(self):
        """Count one pickle of this queue that has arrived."""
        fipc_segment_claim(&self.queue.segment)

    def _has_claims_open(self):
        """True while pickles of this queue are under way."""
        return fipc_segment_is_lent(&self.queue.segment)

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

    def _trim(self):
        """Do at once what is done after half a second of rest; for tests.  See debug_trim()."""
        self.enter()
        try:
            self._attach()
            with nogil:
                fipc_arena_trim_now(&self.queue.segment)
        finally:
            self.leave()


cdef class StashedMessage:
    cdef fipc_got got
    cdef bytes payload  # what got.buffer points to
    cdef list held      # its blocks, if they are views' already
    cdef list before    # objects of the same batch that come before it, or None
