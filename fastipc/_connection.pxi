# _connection.pxi - the hot methods of a pipe's end: send, recv and what they need. Pipe(),
# wait(), plain descriptors and the pickling of an end are connection.py's.
from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_CheckExact,
    PyByteArray_GET_SIZE,
)
from cpython.long cimport PyLong_CheckExact

cimport cython

from multiprocessing import BufferTooShort as _BufferTooShort

# What receive() returns for a message that its sender gave up: begin with the next one.
cdef object GIVEN_UP = object()


cdef class ConnectionBase:
    """One end of a pipe.

    Threads and processes may use it at once: a message is always received whole, by one of them.
    """

    cdef fipc_conn *conn
    cdef bint closed_
    cdef bint readable_
    cdef bint writable_
    cdef int inside         # calls of this process that released the GIL
    cdef bint custom        # serializer is in the place of codec and pickle
    cdef object serializer  # None: bytes only
    cdef object __weakref__

    cdef void adopt(self, fipc_conn *conn) noexcept:
        self.conn = conn
        self.readable_ = conn.readable
        self.writable_ = conn.writable

    def _configure(self, serializer):
        """How send() encodes objects and recv() decodes them."""
        self.custom = serializer is not DEFAULT
        self.serializer = serializer

    def _options(self):
        """What was given to _configure()."""
        return self.serializer if self.custom else DEFAULT

    def _open(self, int fd, int read_fd, int write_fd, uint32_t end):
        """Attach to an end through its descriptors, which belong to this object then."""
        cdef fipc_conn *conn
        cdef int rc = fipc_conn_open(fd, read_fd, write_fd, end, &conn)
        if rc == -EINVAL or rc == -EBADF:
            raise OSError(
                -rc, f"descriptors {fd}, {read_fd} and {write_fd} are not those of a fastipc pipe"
            )
        if rc < 0:
            raise_status(rc, self)
        self.adopt(conn)

    def __dealloc__(self):
        if self.conn != NULL:
            fipc_conn_close(self.conn)
            self.conn = NULL

    # ---- entering and leaving without the GIL ----

    cdef int check_closed(self) except -1:
        if self.closed_ or self.conn == NULL:
            raise OSError("handle is closed")
        return 0

    @cython.final
    cdef inline int check_readable(self) except -1:
        if self.closed_ or self.conn == NULL or not self.readable_:
            self.refuse("write-only")
        return 0

    @cython.final
    cdef inline int check_writable(self) except -1:
        if self.closed_ or self.conn == NULL or not self.writable_:
            self.refuse("read-only")
        return 0

    cdef int refuse(self, str what_it_is) except -1:
        self.check_closed()
        raise OSError(f"connection is {what_it_is}")

    cdef void leave(self) noexcept:
        cdef fipc_conn *conn
        self.inside -= 1
        if self.closed_ and self.inside == 0 and self.conn != NULL:
            conn = self.conn
            self.conn = NULL
            fipc_conn_close(conn)

    cdef inline void count_given(self) noexcept:
        """A message has reached its receiver, who may have closed this end meanwhile."""
        if self.conn != NULL:
            fipc_channel_count_given(&self.conn.in_, 1)

    cdef int fail(self, int rc) except -1:
        if rc == -EPIPE:
            raise BrokenPipeError(EPIPE, "Broken pipe")
        if rc == -ENODATA:
            raise EOFError
        if rc == -EPROTO:
            raise OSError("got end of file during message")
        if rc == -EBADF and self.closed_:
            raise OSError("handle is closed")
        if rc == -EDEADLK:
            raise RuntimeError(
                f"{self!r} was used again by the thread that is in the middle of a large message; "
                "let the signal handler or finalizer use another connection"
            )
        raise_status(rc, self)

    # ---- sending ----

    @cython.binding(False)
    def send(self, obj):
        """Send obj, pickled in this call; blocks while the pipe is full.

        Raises BrokenPipeError when nobody can receive it any more, and whatever pickling raises.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.send
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef message out
        cdef int rc
        self.check_writable()
        if self.custom:
            self.send_serialized(obj)
            return
        keep = encode(obj, scratch, &out)
        # Pickling may have closed this end.
        self.check_writable()
        if out.size <= FIPC_INLINE_MAX:
            rc = fipc_conn_try_send(self.conn, out.data, out.size, out.tag)
            if rc == 0:
                return
        self.send_slow(&out)

    cdef int send_serialized(self, object obj) except -1:
        """send() with a serializer of the user's."""
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef Py_buffer view
        cdef message out
        serialize(self.serializer, obj, self, &view)
        try:
            # The serializer may have closed this end.
            self.check_writable()
            out.data = view.buf
            out.size = view.len
            out.tag = FASTIPC_TAG_RAW
            if out.size <= FIPC_INLINE_MAX:
                # Under the lock no memory may be touched that could fault for long.
                memcpy(scratch, view.buf, view.len)
                out.data = scratch
                if fipc_conn_try_send(self.conn, scratch, out.size, out.tag) == 0:
                    return 0
            return self.send_slow(&out)
        finally:
            PyBuffer_Release(&view)

    cdef int send_slow(self, message *out) except -1:
        cdef fipc_conn_sending state
        cdef bint done = False
        cdef int rc
        self.check_writable()
        memset(&state, 0, sizeof(state))
        self.inside += 1
        try:
            while True:
                with nogil:
                    rc = fipc_conn_send(
                        self.conn, out.data, out.size, out.tag, FIPC_FOREVER, &state
                    )
                if rc != -EINTR:
                    break
                check_signals()
            done = True
            if rc < 0:
                self.fail(rc)
        finally:
            if not done:
                # An exception out of a signal handler: receivers drop what they have.
                with nogil:
                    fipc_conn_send_abandon(self.conn, &state)
            self.leave()
        return 0

    @cython.binding(False)
    def send_bytes(self, buf, offset=0, size=None):
        """Send `size` bytes of a bytes-like object, from `offset` on, as one message.

        Blocks while the pipe is full.  Raises TypeError for what is not bytes-like or not
        C-contiguous, ValueError for an offset or size outside the object, BrokenPipeError when
        nobody can receive any more.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.send_bytes
        """
        cdef Py_buffer view
        cdef message out
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef Py_ssize_t start, count
        self.check_writable()
        # What lies in the object's own memory and takes no Python to find is sent from there.
        # 64 bytes: 39 ns a call, through a buffer view 47.
        if size is None and PyLong_CheckExact(offset):
            if PyBytes_CheckExact(buf):
                start = offset
                count = PyBytes_GET_SIZE(buf) - start
                out.data = PyBytes_AS_STRING(buf)
            elif PyByteArray_CheckExact(buf):
                start = offset
                count = PyByteArray_GET_SIZE(buf) - start
                out.data = PyByteArray_AS_STRING(buf)
            else:
                start = count = -1
            if (start >= 0 and 0 <= count <= FIPC_INLINE_MAX and fipc_conn_try_send(
                    self.conn, <const char *>out.data + start, count, FASTIPC_TAG_RAW) == 0):
                return
        try:
            get_buffer(buf, &view, PyBUF_SIMPLE)
        except BufferError as error:
            raise TypeError(
                f"send_bytes() needs a C-contiguous buffer: {error}; pass bytes(...) of it, which copies"
            ) from None
        try:
            start = offset
            if start < 0:
                raise ValueError("offset is negative")
            if view.len < start:
                raise ValueError("buffer length < offset")
            if size is None:
                count = view.len - start
            else:
                count = size
                if count < 0:
                    raise ValueError("size is negative")
                if count > view.len - start:
                    raise ValueError("buffer length < offset + size")
            out.data = <const char *>view.buf + start
            out.size = count
            out.tag = FASTIPC_TAG_RAW
            # Finding the buffer and the numbers may have closed this end.
            self.check_writable()
            if count <= FIPC_INLINE_MAX:
                if not PyBytes_CheckExact(buf):
                    # Under the lock no memory may be touched that could fault for long, as a
                    # mapped file's might.
                    memcpy(scratch, out.data, count)
                    out.data = scratch
                if fipc_conn_try_send(self.conn, out.data, out.size, out.tag) == 0:
                    return
            self.send_slow(&out)
        finally:
            PyBuffer_Release(&view)

    # ---- receiving ----

    @cython.binding(False)
    def recv(self):
        """Receive the next object; blocks until there is one.

        Raises EOFError when nothing is left and the other end is closed everywhere, and whatever
        unpickling raises: that message is then gone, the next one is intact.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.recv
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef uint64_t size = 0
        cdef uint16_t tag = 0
        cdef object data
        self.check_readable()
        if fipc_conn_try_recv(self.conn, scratch, &size, &tag) != 0:
            data = self.receive(scratch, &size, &tag)
            if data is not None:
                return self.object_of(data, tag)
        if tag == FASTIPC_TAG_CODED and not self.custom:
            try:  # as object_at() does
                return fastipc_decode(scratch, size)
            finally:
                self.count_given()
        return self.object_at(scratch, size, tag)

    cdef object object_at(self, const void *data, uint64_t size, uint16_t tag):
        """The object of a message, which has then reached its receiver, for stats()."""
        try:
            if self.custom:
                return deserialize(self.serializer, copy_out(data, size), tag, self)
            return decode(data, size, tag)
        finally:
            self.count_given()

    cdef object object_of(self, bytes data, uint16_t tag):
        """The same of a message that lies in a bytes object."""
        try:
            if self.custom:
                return deserialize(self.serializer, data, tag, self)
            if tag == FASTIPC_TAG_BYTES:
                return data
            return decode(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), tag)
        finally:
            self.count_given()

    def _recv_now(self):
        """Receive a message if one is there: (object,); or None.  Raises EOFError as recv()."""
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef fipc_conn_receiving state
        cdef object data
        cdef int rc
        self.check_readable()
        memset(&state, 0, sizeof(state))
        self.inside += 1
        try:
            with nogil:
                rc = fipc_conn_recv_begin(self.conn, scratch, 0, &state)
            if rc == -ETIMEDOUT or rc == -EINTR:
                return None
            if rc < 0:
                self.fail(rc)
            if state.whole:
                return (self.object_at(scratch, state.size, state.tag),)
            data = self.finish(&state)
            if data is GIVEN_UP:
                return None
            return (self.object_of(data, state.tag),)
        finally:
            self.leave()

    cdef object receive(self, uint8_t *scratch, uint64_t *size, uint16_t *tag):
        """Waits for a message: None, it is in scratch; or a bytes object with it."""
        cdef fipc_conn_receiving state
        cdef object data = GIVEN_UP
        self.check_readable()
        self.inside += 1
        try:
            while data is GIVEN_UP:
                memset(&state, 0, sizeof(state))
                self.begin(scratch, &state)
                size[0] = state.size
                tag[0] = state.tag
                if state.whole:
                    return None
                data = self.finish(&state)
            return data
        finally:
            self.leave()

    cdef int begin(self, uint8_t *scratch, fipc_conn_receiving *state) except -1:
        """Waits until a message begins."""
        cdef int rc
        if lent_count:
            settle_lent()
        while True:
            with nogil:
                rc = fipc_conn_recv_begin(self.conn, scratch, FIPC_FOREVER, state)
            if rc != -EINTR:
                break
            check_signals()
        if rc < 0:
            self.fail(rc)
        return 0

    cdef object finish(self, fipc_conn_receiving *state):
        """The rest of a large message as bytes, or GIVEN_UP."""
        cdef bytes data
        try:
            data = PyBytes_FromStringAndSize(NULL, state.size)
        except MemoryError:
            with nogil:
                fipc_conn_recv_keep(self.conn, NULL, state)
            raise
        fipc_os_huge(PyBytes_AS_STRING(data), state.size)
        if self.fill(PyBytes_AS_STRING(data), state):
            return data
        return GIVEN_UP

    cdef bint fill(self, void *at, fipc_conn_receiving *state) except -1:
        """Receives a large message into `at`; False when its sender gave it up."""
        cdef bint done = False
        cdef int rc
        try:
            while True:
                with nogil:
                    rc = fipc_conn_recv_into(self.conn, at, FIPC_FOREVER, state)
                if rc != -EINTR:
                    break
                check_signals()
            done = True
        finally:
            if not done:
                # An exception out of a signal handler: the next recv() here goes on.
                with nogil:
                    fipc_conn_recv_keep(self.conn, at, state)
        if rc == -ECANCELED:
            return False
        if rc < 0:
            self.fail(rc)
        return True

    cdef bytes receive_bytes(self):
        """The next message as the bytes that multiprocessing would have sent."""
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef uint64_t size = 0
        cdef uint16_t tag = 0
        cdef object data = None
        if fipc_conn_try_recv(self.conn, scratch, &size, &tag) != 0:
            data = self.receive(scratch, &size, &tag)
        try:
            if data is None:
                data = copy_out(scratch, size)
            return as_bytes(data, tag)
        finally:
            self.count_given()

    @cython.binding(False)
    def recv_bytes(self, maxlength=None):
        """Receive the next message as bytes; blocks until there is one.

        Raises EOFError as recv() does.  A message longer than `maxlength` raises OSError and ends
        reading from this end.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.recv_bytes
        """
        cdef bytes data
        self.check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = self.receive_bytes()
        if maxlength is not None and len(data) > maxlength:
            if self.writable_:
                self.readable_ = False
            else:
                self.close()
            raise OSError("bad message length")
        return data

    @cython.binding(False)
    def recv_bytes_into(self, buf, offset=0):
        """Receive the next message into a writable buffer, from `offset` (bytes) on.

        Returns its length in bytes.  Blocks until there is one.  Raises EOFError as recv() does,
        BufferTooShort with the whole message in args[0] if it does not fit, TypeError for what is
        not a writable C-contiguous buffer.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.recv_bytes_into
        """
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef uint64_t size = 0
        cdef uint16_t tag = 0
        cdef Py_buffer view
        cdef Py_ssize_t start
        cdef bint received = False
        self.check_readable()
        # As in send_bytes().
        if PyByteArray_CheckExact(buf) and PyLong_CheckExact(offset):
            start = offset
            if 0 <= start <= PyByteArray_GET_SIZE(buf):
                received = fipc_conn_try_recv(self.conn, scratch, &size, &tag) == 0
                if (received and tag <= FASTIPC_TAG_RAW
                        and size <= <uint64_t>(PyByteArray_GET_SIZE(buf) - start)):
                    memcpy(PyByteArray_AS_STRING(buf) + start, scratch, size)
                    self.count_given()
                    return size
        try:
            get_buffer(buf, &view, PyBUF_WRITABLE)
        except BufferError as error:
            # Before anything is received: the message stays.
            raise TypeError(
                f"recv_bytes_into() needs a writable C-contiguous buffer: {error}"
            ) from None
        try:
            start = offset
            if start < 0:
                raise ValueError("negative offset")
            if start > view.len:
                raise ValueError("offset too large")
            if not received:
                # Finding the buffer and the number may have closed this end.
                self.check_readable()
                received = fipc_conn_try_recv(self.conn, scratch, &size, &tag) == 0
            if received:
                if tag <= FASTIPC_TAG_RAW and size <= <uint64_t>(view.len - start):
                    memcpy(<char *>view.buf + start, scratch, size)
                    self.count_given()
                    return size
                return self.place(copy_out(scratch, size), tag, &view, start)
            return self.receive_into(&view, start)
        finally:
            PyBuffer_Release(&view)

    cdef object place(self, object message, uint16_t tag, Py_buffer *view, Py_ssize_t start):
        cdef bytes data
        try:
            data = as_bytes(message, tag)
        finally:
            self.count_given()
        if PyBytes_GET_SIZE(data) > view.len - start:
            raise _BufferTooShort(data)
        memcpy(<char *>view.buf + start, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return PyBytes_GET_SIZE(data)

    cdef object receive_into(self, Py_buffer *view, Py_ssize_t start):
        """recv_bytes_into() when it has to wait, or the message is large."""
        cdef uint8_t scratch[SCRATCH_BYTES]
        cdef fipc_conn_receiving state
        cdef object data
        self.check_readable()
        self.inside += 1
        try:
            while True:
                memset(&state, 0, sizeof(state))
                self.begin(scratch, &state)
                if state.whole:
                    if (state.tag == FASTIPC_TAG_RAW
                            and state.size <= <uint64_t>(view.len - start)):
                        memcpy(<char *>view.buf + start, scratch, state.size)
                        self.count_given()
                        return state.size
                    data = copy_out(scratch, state.size)
                elif (state.tag == FASTIPC_TAG_RAW
                        and state.size <= <uint64_t>(view.len - start)):
                    if self.fill(<char *>view.buf + start, &state):
                        self.count_given()
                        return state.size
                    continue
                else:
                    data = self.finish(&state)
                    if data is GIVEN_UP:
                        continue
                return self.place(data, state.tag, view, start)
        finally:
            self.leave()

    # ---- looking ----

    def poll(self, timeout=0.0):
        """Return whether something can be received within `timeout` seconds (None: for ever).

        True at end of file too.
        https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection.poll
        """
        cdef fipc_conn_receiving state
        cdef int64_t deadline
        cdef int rc
        self.check_readable()
        deadline = deadline_after(timeout)
        memset(&state, 0, sizeof(state))
        self.inside += 1
        try:
            while True:
                with nogil:
                    rc = fipc_conn_poll(self.conn, deadline, &state)
                if rc != -EINTR:
                    break
                check_signals()
            if rc < 0:
                self.fail(rc)
        finally:
            self.leave()
        return rc == 1

    def fileno(self):
        """Return a descriptor that is readable while something can be received, or at end of file.

        For select() and its kin.  The first call makes each send into an empty pipe write to a
        descriptor.  An end that only sends returns its descriptor for writing.
        """
        cdef int rc
        self.check_closed()
        self.inside += 1
        try:
            while True:
                with nogil:
                    rc = fipc_conn_fileno(self.conn, FIPC_FOREVER)
                if rc != -EINTR:
                    break
                check_signals()
            if rc < 0:
                self.fail(rc)
        finally:
            self.leave()
        return rc

    @property
    def closed(self):
        """True if the connection is closed."""
        return self.closed_ or self.conn == NULL

    @property
    def readable(self):
        """True if the connection can receive."""
        return self.readable_

    @property
    def writable(self):
        """True if the connection can send."""
        return self.writable_

    def _stats(self):
        """(sent, received): the fields of _stats.Stats for each way that this end goes, or None."""
        sent = received = None
        self.check_closed()
        self.inside += 1
        try:
            if self.writable_:
                sent = channel_stats(&self.conn.out, self)
            if self.readable_:
                received = channel_stats(&self.conn.in_, self)
        finally:
            self.leave()
        return sent, received

    # ---- end ----

    def close(self):
        """Close this end; once every copy of it is closed, the other end meets the end of file."""
        cdef fipc_conn *conn
        if self.closed_ or self.conn == NULL:
            return
        self.closed_ = True
        if self.inside == 0:
            conn = self.conn
            self.conn = NULL
            fipc_conn_close(conn)
        else:
            fipc_conn_shut(self.conn)
        if lent_count:
            settle_lent()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, exc_tb):
        self.close()

    # ---- for connection.py, the handles and the tests ----

    def _handles(self):
        """(memory file, read end, write end, number of the end); -1 for none."""
        self.check_closed()
        if (fipc_segment_fd_is_ours(&self.conn.segment) < 0
                or fipc_conn_fds_are_ours(self.conn) < 0):
            raise_status(-EBADF, self)
        return self.conn.segment.fd, self.conn.read_fd, self.conn.write_fd, self.conn.end

    def _identity(self):
        """(segment id, inodes of memory file, read end and write end)."""
        self.check_closed()
        return (
            PyBytes_FromStringAndSize(<char *>self.conn.segment.id, 16),
            self.conn.segment.inode,
            self.conn.read_inode if self.conn.read_fd >= 0 else 0,
            self.conn.write_inode if self.conn.write_fd >= 0 else 0,
        )

    def _label(self):
        if self.conn == NULL:
            return ""
        return self.conn.segment.label.decode("utf-8", "replace")

    cdef int map_segment(self) except -1:
        """Make sure that its header can be looked at, before anything was sent or received."""
        cdef int rc = fipc_segment_map(&self.conn.segment)
        if rc < 0:
            raise_status(rc, self)
        return 0

    def _lend(self):
        """Count one pickle of this pipe that is under way."""
        self.map_segment()
        fipc_segment_lend(&self.conn.segment)

    def _claim(self):
        """Count one pickle of this pipe that has arrived."""
        self.map_segment()
        fipc_segment_claim(&self.conn.segment)

    def _has_claims_open(self):
        """True while pickles of this pipe are under way."""
        self.map_segment()
        return fipc_segment_is_lent(&self.conn.segment)

    def _attach(self):
        """Take this process's place among those attached now, rather than with the first use."""
        cdef int rc = 0
        self.check_closed()
        if self.conn.readable:
            rc = fipc_channel_enter(&self.conn.in_)
        if rc >= 0 and self.conn.writable:
            rc = fipc_channel_enter(&self.conn.out)
        if rc < 0:
            self.fail(rc)

    def _check(self):
        """Check every record and block; for tests.  See debug_check()."""
        self._attach()
        channels = []
        if self.conn.readable:
            channels.append(<size_t>&self.conn.in_)
        if self.conn.writable:
            channels.append(<size_t>&self.conn.out)
        return check_segment(&self.conn.segment, channels)


cdef bytes as_bytes(object data, uint16_t tag):
    """What multiprocessing would have sent for a message: a pickle, unless it was bytes."""
    if tag == FASTIPC_TAG_RAW or tag == FASTIPC_TAG_PICKLE:
        return data
    if tag == FASTIPC_TAG_BYTES:
        return dumps(data)
    if tag == FASTIPC_TAG_CODED and fastipc_has_objects(
        <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
    ):
        # Without the classes, which this process may not have.
        return _pickle_of(bytes(data))
    return dumps(decode(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), tag))


def make_pipe(ConnectionBase a, ConnectionBase b, bint duplex, label):
    """Make two new objects the ends of a new pipe; a receives and b sends if not duplex."""
    cdef fipc_conn *first
    cdef fipc_conn *second
    cdef bytes name = None if label is None else label
    cdef int rc = fipc_pipe_create(
        duplex, NULL if name is None else PyBytes_AS_STRING(name), &first, &second
    )
    if rc < 0:
        raise_status(rc, "a new pipe")
    a.adopt(first)
    b.adopt(second)
