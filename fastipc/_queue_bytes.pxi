# _queue_bytes.pxi - put_bytes(), get_bytes() and get_bytes_into() of the queues: for who does
# his own encoding. What a message's bytes are for get() is _messages.pxi's.

cdef object put_raw(QueueBase self, object buf, int64_t deadline):
    """QueueBase.put_bytes()."""
    cdef Py_buffer view
    try:
        get_buffer(buf, &view, PyBUF_SIMPLE)
    except BufferError as error:
        raise BufferError(
            f"put_bytes() needs a C-contiguous buffer: {error}; pass bytes(...) of it, which copies"
        ) from None
    try:
        self.put_data(view.buf, view.len, PyBytes_CheckExact(buf), deadline)
    finally:
        PyBuffer_Release(&view)


cdef bytes block_bytes(QueueBase self, fipc_got *got):
    """The bytes of a message in blocks, as multiprocessing would have sent it."""
    cdef bytes data
    cdef list held
    self.used = True
    if got.tag == FASTIPC_TAG_BUFFERS:
        held = take_held(self.queue, got)
        if self.custom:
            check_tag(got.tag, self)
        return buffers_bytes(self, got, held)
    check_one_block(self, got)
    # Counted in: a close() in another thread must not take the block away meanwhile.
    self.inside += 1
    try:
        data = as_bytes(copy_out(got.block.data, got.size_bytes), got.tag)
        release_block(self, got)
    except MemoryError:
        self.put_aside(got, None)
        raise
    except:
        release_block(self, got)
        raise
    finally:
        self.leave()
    return data


cdef bytes buffers_bytes(QueueBase self, fipc_got *got, list held):
    """The pickle of a message whose buffers lie in blocks, with the buffers in it."""
    cdef list buffers = []
    cdef object pickled
    try:
        pickled = decode_views(got, held, buffers, False)
        return _with_buffers(pickled, buffers)
    except OSError:
        raise
    except:
        # No memory, or a signal handler.
        self.put_aside(got, held)
        raise


cdef bytes bytes_of(QueueBase self, object obj):
    """The bytes of the message that an object was made of."""
    if not self.custom:
        return dumps(obj)
    return bytes(obj if self.serializer is None else self.serializer.dumps(obj))


cdef int check_one_block(QueueBase self, fipc_got *got) except -1:
    """Raises OSError, and the message is gone, unless all of it lies in one block.

    Only a pickle with buffers has several, or something beside them; its tag says so, and both
    come from shared memory.
    """
    if got.block_count == 1 and got.length == fipc_got_rest_off(got):
        return 0
    release_block(self, got)
    self.fail(-EBADMSG)


cdef void release_block(QueueBase self, fipc_got *got) noexcept:
    self.inside += 1
    with nogil:
        fipc_queue_release(self.queue, got)
    self.leave()


cdef bytes made_bytes(QueueBase self, list made):
    """The bytes of the first of some objects that are ready; without memory it stays first."""
    # Made before there may be no memory for it.
    cdef TakenBatch again = TakenBatch()
    cdef object obj = made.pop(0)
    try:
        return bytes_of(self, obj)
    except MemoryError:
        again.made.append(obj)
        self.stash_first(again)
        raise


cdef bytes stashed_bytes(QueueBase self, StashedMessage stashed):
    """The bytes of a message that was put aside, or it is put aside again."""
    cdef Held first
    if stashed.held is None:
        return block_bytes(self, &stashed.got)
    if not self.custom:
        return buffers_bytes(self, &stashed.got, stashed.held)
    check_tag(stashed.got.tag, self)
    first = stashed.held[0]
    try:
        return bytes(view_of(first, 0, first.size_bytes))
    except MemoryError:
        self.put_aside(&stashed.got, stashed.held)
        raise


cdef bytes unstash_bytes(QueueBase self):
    cdef StashedMessage stashed
    cdef TakenBatch taken
    first = self.stash[0]
    if isinstance(first, StashedMessage):
        stashed = first
        if stashed.before:
            return made_bytes(self, stashed.before)
        del self.stash[0]
        try:
            return stashed_bytes(self, stashed)
        finally:
            self.count_given(1)
    taken = first
    drop_before_last(self, taken)
    if taken.made:
        return made_bytes(self, taken.made)
    try:
        return next_message(self, taken)
    finally:
        self.count_given(1)


cdef bytes get_raw(QueueBase self, int64_t deadline):
    """QueueBase.get_bytes()."""
    cdef uint8_t scratch[SCRATCH_BYTES]
    cdef fipc_got got
    cdef int rc
    if self.has_stash():
        return unstash_bytes(self)
    got.buffer = scratch
    got.buffer_bytes = SCRATCH_BYTES
    rc = fipc_queue_try_get(self.queue, &got)
    if rc != 0:
        self.get_slow(&got, deadline, rc)
    return raw_of(self, &got)


cdef bytes raw_of(QueueBase self, fipc_got *got):
    """The bytes of a message that was taken, which has then reached its caller, for stats()."""
    try:
        if got.block_count == 0:
            return as_bytes(copy_out(got.buffer, got.size_bytes), got.tag)
        return block_bytes(self, got)
    finally:
        self.count_given(1)


cdef object get_raw_into(QueueBase self, object buf, object offset, int64_t deadline):
    """QueueBase.get_bytes_into()."""
    cdef uint8_t scratch[SCRATCH_BYTES]
    cdef fipc_got got
    cdef Py_buffer view
    cdef Py_ssize_t start
    cdef const void *data
    cdef char *at
    cdef int rc
    try:
        get_buffer(buf, &view, PyBUF_WRITABLE)
    except BufferError as error:
        # Before anything is taken: the message stays.
        raise TypeError(
            f"get_bytes_into() needs a writable C-contiguous buffer: {error}"
        ) from None
    try:
        start = offset
        if start < 0:
            raise ValueError("negative offset")
        if start > view.len:
            raise ValueError("offset too large")
        if self.has_stash():
            return place_bytes(unstash_bytes(self), &view, start)
        got.buffer = scratch
        got.buffer_bytes = SCRATCH_BYTES
        rc = fipc_queue_try_get(self.queue, &got)
        if rc != 0:
            self.get_slow(&got, deadline, rc)
        if got.tag > FASTIPC_TAG_RAW or got.size_bytes > <uint64_t>(view.len - start):
            return place_bytes(raw_of(self, &got), &view, start)
        at = <char *>view.buf + start
        if got.block_count == 0:
            memcpy(at, scratch, got.size_bytes)
        else:
            check_one_block(self, &got)
            data = got.block.data
            # Counted in, as in block_bytes().
            self.inside += 1
            with nogil:
                fipc_copy_out(at, data, got.size_bytes, got.size_bytes)
                fipc_queue_release(self.queue, &got)
            self.leave()
        self.count_given(1)
        return got.size_bytes
    finally:
        PyBuffer_Release(&view)


cdef object place_bytes(bytes data, Py_buffer *view, Py_ssize_t start):
    if PyBytes_GET_SIZE(data) > view.len - start:
        raise _BufferTooShort(data)
    memcpy(<char *>view.buf + start, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return PyBytes_GET_SIZE(data)
