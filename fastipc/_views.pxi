# _views.pxi - pickles whose buffers lie in blocks: how they are laid out on the way, and
# the views that the receiver gets of them. Which block is whose is csrc/'s.
#
# The message is a struct index_head, its entries and the pickle. They stand inline behind
# the record's references; if they are too long, entries and pickle stand at the beginning
# of block 0, and of a message in a batch the head does too. Entry i tells where the
# pickle's buffer i lies.
from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_FromStringAndSize,
    PyByteArray_Resize,
)
from cpython.buffer cimport PyBuffer_FillInfo

from operator import index as _index

cdef struct index_head:
    uint32_t buffer_count
    uint32_t inline       # 1: entries and pickle follow; 0: in block 0, size_bytes of them
    uint64_t size_bytes   # of the entries and the pickle

cdef struct index_entry:
    uint64_t size_bytes
    uint64_t off
    uint64_t block

cdef enum:
    VIEW_ALIGN = 64
    # A buffer from here on has a block of its own, which is then freed without waiting
    # for the others, and page aligned.
    OWN_BLOCK_BYTES = 1 << 20

# What views may keep of this process's memory before further messages are copied out.
cdef uint64_t view_limit = max(
    256 << 20, _os.sysconf("SC_PAGE_SIZE") * _os.sysconf("SC_PHYS_PAGES") // 8
)


cdef uint64_t align_view(uint64_t off) noexcept:
    return (off + VIEW_ALIGN - 1) & ~<uint64_t>(VIEW_ALIGN - 1)


def set_view_limit(size_bytes):
    """Let views keep up to `size_bytes` of shared memory in this process; return the limit before.

    What get() returns may lie over shared memory, as a NumPy array does, until it is gone.  A
    process that keeps more than the limit gets its further messages copied, as with copy=True.
    The limit is an eighth of the machine's memory, at least 256 MiB.  0 copies everything.
    Raises ValueError for a negative limit, TypeError for one that is no integer.
    """
    global view_limit
    before = view_limit
    try:
        limit = _index(size_bytes)
    except TypeError:
        raise TypeError(
            f"a limit is a whole number of bytes, not {type(size_bytes).__name__}"
        ) from None
    if limit < 0:
        raise ValueError(f"a limit of {limit} bytes; 0 keeps no views at all")
    view_limit = min(limit, 1 << 62)
    return before


def get_view_limit():
    """Return how many bytes of shared memory views may keep in this process."""
    return view_limit


def get_view_bytes():
    """Return how many bytes of shared memory views keep in this process now."""
    return fipc_hold_bytes()


cdef class Held:
    """A block that was got, kept as long as anything refers to this."""

    cdef fipc_queue *queue
    cdef fipc_hold hold
    cdef uint64_t size_bytes

    def __dealloc__(self):
        if self.queue != NULL:
            fipc_hold_release(&self.hold)
            fipc_queue_drop(self.queue)


cdef class View:
    """A writable buffer over a part of a block."""

    cdef Held held
    cdef void *at
    cdef Py_ssize_t size_bytes

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.size_bytes, 0, flags)

    def __len__(self):
        return self.size_bytes


cdef list take_held(fipc_queue *queue, fipc_got *got):
    """A Held for each block of a message; on error none is left with the process."""
    cdef fipc_block block
    cdef uint64_t size_bytes
    cdef uint32_t i, taken = 0
    cdef Held held
    cdef list result = []
    try:
        for i in range(got.block_count):
            held = Held.__new__(Held)
            result.append(held)
            if fipc_channel_got_block(&queue.channel, got, i, &block, &size_bytes) < 0:
                raise OSError(EBADMSG, "a message refers to memory that is damaged")
            held.size_bytes = size_bytes
            fipc_hold_take(&held.hold, &queue.segment, &block)
            fipc_queue_keep(queue)
            held.queue = queue
            taken += 1
    except:
        for i in range(taken, got.block_count):
            if fipc_channel_got_block(&queue.channel, got, i, &block, &size_bytes) == 0:
                fipc_block_release(&queue.segment, &block)
        raise
    return result


cdef View view_of(Held held, uint64_t off, uint64_t size_bytes):
    """A view of a part of a block, whose bounds are checked."""
    cdef View view
    if off > held.size_bytes or size_bytes > held.size_bytes - off:
        raise OSError(EBADMSG, "a message refers to memory outside of its blocks")
    view = View.__new__(View)
    view.held = held
    view.at = held.hold.block.data + off
    view.size_bytes = size_bytes
    return view


cdef object copy_of(View view):
    """A bytearray with what the view shows."""
    cdef object result
    cdef char *at
    # Made in two steps: CPython's constructor of a sized one complains of itself when there
    # is no memory.
    result = PyByteArray_FromStringAndSize(NULL, 0)
    PyByteArray_Resize(result, view.size_bytes)
    at = PyByteArray_AS_STRING(result)
    fipc_os_huge(at, view.size_bytes)
    if view.size_bytes <= COPY_WITHOUT_GIL:
        fipc_copy_out(at, view.at, view.size_bytes, view.size_bytes)
    else:
        with nogil:
            fipc_copy_out(at, view.at, view.size_bytes, view.size_bytes)
    return result


cdef object decode_views(fipc_got *got, list held, list buffers, bint copies):
    """The pickle of a message with FASTIPC_TAG_BUFFERS; fills `buffers` with views, or copies.

    MemoryError: nothing has happened yet.
    """
    cdef uint32_t rest = fipc_got_rest_off(got)
    cdef const uint8_t *inline = <const uint8_t *>got.buffer + rest
    cdef index_head head
    cdef index_entry entry
    cdef uint64_t entries, start = 0
    cdef uint32_t i
    cdef bytes index = None
    cdef const uint8_t *at
    cdef View view
    if got.length == rest:
        start = sizeof(head)
        memcpy(&head, view_of(held[0], 0, sizeof(head)).at, sizeof(head))
        head.inline = 0
    elif got.length - rest < sizeof(head):
        raise OSError(EBADMSG, "a message without its index")
    else:
        memcpy(&head, inline, sizeof(head))
    if head.inline:
        at = inline + sizeof(head)
        if head.size_bytes != got.length - rest - sizeof(head):
            raise OSError(EBADMSG, "a message whose index is damaged")
    else:
        # Copied out before it is read: others can still write there.
        index = copy_out(view_of(held[0], start, head.size_bytes).at, head.size_bytes)
        at = <const uint8_t *>PyBytes_AS_STRING(index)
    entries = <uint64_t>head.buffer_count * sizeof(entry)
    if entries > head.size_bytes:
        raise OSError(EBADMSG, "a message whose index is damaged")
    for i in range(head.buffer_count):
        memcpy(&entry, at + i * sizeof(entry), sizeof(entry))
        if entry.block >= <uint64_t>len(held):
            raise OSError(EBADMSG, "a message refers to a block that it does not have")
        view = view_of(held[entry.block], entry.off, entry.size_bytes)
        buffers.append(copy_of(view) if copies else view)
    return PyBytes_FromStringAndSize(<const char *>at + entries, head.size_bytes - entries)


cdef class Layout:
    """A pickle with buffers on its way out: what lies where."""

    cdef bytes index            # struct index_head, entries, pickle
    cdef bint inline
    cdef uint32_t block_count
    cdef uint64_t size_bytes[FIPC_REFS_MAX]
    cdef list buffers

    def __cinit__(self, bytes pickle, list buffers):
        cdef index_head head
        cdef index_entry entry
        cdef uint64_t shared
        cdef uint32_t i = 0, own
        cdef Py_buffer *view
        cdef uint8_t *at
        self.buffers = buffers
        head.buffer_count = len(buffers)
        head.size_bytes = head.buffer_count * sizeof(entry) + PyBytes_GET_SIZE(pickle)
        head.inline = self.inline = head.size_bytes + sizeof(head) <= FIPC_REST_MAX
        self.index = PyBytes_FromStringAndSize(NULL, sizeof(head) + head.size_bytes)
        at = <uint8_t *>PyBytes_AS_STRING(self.index)
        memcpy(at, &head, sizeof(head))
        at += sizeof(head)
        shared = 0 if self.inline else head.size_bytes
        # Block 0 is for what shares one, if anything does.
        own = 0 if self.inline else 1
        for buffer in buffers:
            if own == 0 and (<Py_buffer *>PyPickleBuffer_GetBuffer(buffer)).len < OWN_BLOCK_BYTES:
                own = 1
        if own == 0 and head.buffer_count > FIPC_REFS_MAX:
            own = 1
        for buffer in buffers:
            view = <Py_buffer *>PyPickleBuffer_GetBuffer(buffer)
            entry.size_bytes = view.len
            if view.len >= OWN_BLOCK_BYTES and own < FIPC_REFS_MAX:
                entry.block = own
                entry.off = 0
                self.size_bytes[own] = view.len
                own += 1
            else:
                shared = align_view(shared)
                entry.block = 0
                entry.off = shared
                shared += view.len
            memcpy(at + i * sizeof(entry), &entry, sizeof(entry))
            i += 1
        if shared != 0:
            self.size_bytes[0] = shared
        self.block_count = own
        memcpy(at + i * sizeof(entry), PyBytes_AS_STRING(pickle), PyBytes_GET_SIZE(pickle))

    cdef int fill(self, fipc_block *block) except -1:
        """Copies the buffers, and a long index, into their blocks."""
        cdef const uint8_t *index = <const uint8_t *>PyBytes_AS_STRING(self.index)
        cdef index_entry entry
        cdef Py_buffer *view
        cdef uint8_t *at
        cdef uint32_t i = 0
        if not self.inline:
            memcpy(block[0].data, index + sizeof(index_head),
                   PyBytes_GET_SIZE(self.index) - sizeof(index_head))
        for buffer in self.buffers:
            memcpy(&entry, index + sizeof(index_head) + i * sizeof(entry), sizeof(entry))
            view = <Py_buffer *>PyPickleBuffer_GetBuffer(buffer)
            at = block[entry.block].data + entry.off
            if view.len <= COPY_WITHOUT_GIL:
                fipc_copy(at, view.buf, view.len)
            else:
                with nogil:
                    fipc_copy(at, view.buf, view.len)
            i += 1
        return 0

    cdef const void *rest(self):
        """What of the message is inline."""
        return PyBytes_AS_STRING(self.index)

    cdef uint32_t rest_bytes(self):
        return PyBytes_GET_SIZE(self.index) if self.inline else sizeof(index_head)


cdef bytes flatten(bytes pickle, list buffers):
    """The whole message for one block, index first."""
    cdef index_head head
    cdef index_entry entry
    cdef uint64_t index_bytes, size
    cdef uint32_t i = 0
    cdef Py_buffer *view
    cdef bytes flat
    cdef uint8_t *at
    head.buffer_count = len(buffers)
    head.inline = 0
    head.size_bytes = head.buffer_count * sizeof(entry) + PyBytes_GET_SIZE(pickle)
    index_bytes = size = sizeof(head) + head.size_bytes
    for buffer in buffers:
        size = align_view(size) + (<Py_buffer *>PyPickleBuffer_GetBuffer(buffer)).len
    flat = PyBytes_FromStringAndSize(NULL, size)
    at = <uint8_t *>PyBytes_AS_STRING(flat)
    memcpy(at, &head, sizeof(head))
    entry.block = 0
    entry.off = index_bytes
    for buffer in buffers:
        view = <Py_buffer *>PyPickleBuffer_GetBuffer(buffer)
        entry.off = align_view(entry.off)
        entry.size_bytes = view.len
        memcpy(at + sizeof(head) + i * sizeof(entry), &entry, sizeof(entry))
        memcpy(at + entry.off, view.buf, view.len)
        entry.off += view.len
        i += 1
    memcpy(at + sizeof(head) + i * sizeof(entry), PyBytes_AS_STRING(pickle),
           PyBytes_GET_SIZE(pickle))
    return flat
