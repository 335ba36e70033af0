# _pickler.pxi - objects to pickles and back: a pickler that is kept, and its out-of-band
# buffers. What a pickle travels as is _messages.pxi's.
import copyreg as _copyreg
import pickle as _pickle
import sys as _sys
from multiprocessing.reduction import ForkingPickler as _ForkingPickler

# A buffer from here on goes out of band. Against in band, dumps, copies and loads of an array take
# 0.97 times as long at 1 KiB, 0.92 at 2 KiB, 0.87 at 4 KiB, 0.6 at 64 KiB; the block that it needs
# costs what is saved at 2 KiB.
cdef Py_ssize_t OOB_MIN = 2048
# A dump clears all of the pickler's memo table, which stays as large as it has become. Up to 85
# objects it has 128 places, cleared in 0.1 us; up to 341 it has 512, cleared in 0.8 us; then 2048.
# A new pickler costs 2 us. So one with 512 places is given up after some pickles that had
# done with fewer, and a larger one, or one whose pickle was long, at once.
cdef Py_ssize_t SMALL_MEMO_MAX = 85
cdef Py_ssize_t KEPT_MEMO_MAX = 341
cdef Py_ssize_t KEPT_PICKLE_MAX = 4096
cdef int SMALL_IN_A_ROW_MAX = 8

cdef object _Pickler = _pickle.Pickler
cdef object _PickleBuffer = _pickle.PickleBuffer
cdef object _loads = _pickle.loads
cdef object _modules = _sys.modules
# Asks both tables in each look-up: what is registered or replaced, also in the middle of a
# dump, counts from then on.
cdef object _reducers = fastipc_reducers_new(_ForkingPickler, _copyreg.dispatch_table)
# The codec asks them, too: it takes instances of which pickle would send nothing unusual.
fastipc_classes_init(_ForkingPickler, _copyreg.dispatch_table, _copyreg._extension_registry)
fastipc_shapes_init(_loads, _pickle.UnpicklingError)


cdef class PickleWriter:
    """What a pickler writes to, and gives its buffers to."""

    cdef bytes first
    cdef list rest          # chunks after the first, or None
    cdef list out_of_band   # where buffers go, or None: all stay in band
    cdef list opened        # PickleBuffers that only look writable, or None

    def write(self, data):
        """Called by the pickler: once, unless the pickle is long."""
        cdef bytes chunk
        if PyBytes_CheckExact(data):
            chunk = data
        else:
            # It may change once this call has returned.  raw(): in the order of the memory.
            chunk = bytes(data.raw() if isinstance(data, _PickleBuffer) else data)
        if self.first is None:
            self.first = chunk
        elif self.rest is None:
            self.rest = [chunk]
        else:
            self.rest.append(chunk)

    def take(self, buffer):
        """Called by the pickler for each contiguous PickleBuffer; true: it stays in band."""
        cdef Py_buffer *view = <Py_buffer *>PyPickleBuffer_GetBuffer(buffer)
        # With the protocol 4 of multiprocessing an array is writable where it arrives, also if
        # the sender's was not; with protocol 5 the flag of the buffer would arrive.  The pickler
        # reads the flag from the PickleBuffer itself, after this call: so it is cleared there
        # until the dump has ended.  Only pickle looks at it; whoever asks the PickleBuffer for
        # its buffer gets the exporter's answer.  Only of arrays: other classes may want the
        # bytes that pickle makes of a read-only buffer.
        if view.readonly and is_array(view.obj):
            if self.opened is None:
                self.opened = []
            self.opened.append(buffer)
            view.readonly = 0
        if self.out_of_band is None or view.len < OOB_MIN:
            return True
        self.out_of_band.append(buffer)
        return False

    cdef int end(self) except -1:
        """Takes back what take() has done; keeps no object but the pickle."""
        cdef list opened = self.opened
        self.out_of_band = None
        if opened is not None:
            self.opened = None
            for buffer in opened:
                try:
                    (<Py_buffer *>PyPickleBuffer_GetBuffer(buffer)).readonly = 1
                except ValueError:
                    pass  # released since
        return 0

    cdef bytes taken(self):
        """The pickle, which is no longer kept here."""
        cdef bytes result = self.first
        if self.rest is not None:
            self.rest.insert(0, result)
            result = b"".join(self.rest)
            self.rest = None
        self.first = None
        return result


cdef class KeptPickler:
    """A pickler and its writer.  No cycle: the writer does not know its pickler."""

    cdef PickleWriter writer
    cdef object dump
    cdef object clear_memo
    cdef int small_left     # small pickles until it is given up; 0: its table is small

    def __cinit__(self):
        self.writer = PickleWriter()
        pickler = _Pickler(self.writer, 5, buffer_callback=self.writer.take)
        pickler.dispatch_table = _reducers
        self.dump = pickler.dump
        self.clear_memo = pickler.clear_memo
        # From 3.13 on the collector visits the memo, also while it is being cleared and a
        # finalizer that this has called runs the collector: it would meet freed objects.
        # Nothing that a pickler refers to needs the collector to find it.
        PyObject_GC_UnTrack(<PyObject *>pickler)

    cdef bint is_worth_keeping(self, bytes pickled) noexcept:
        """Whether the next dump is better done with this one, which made this pickle just now."""
        cdef Py_ssize_t memoized
        if PyBytes_GET_SIZE(pickled) > KEPT_PICKLE_MAX:
            return False
        memoized = count_memoized(pickled)
        if memoized > SMALL_MEMO_MAX:
            self.small_left = SMALL_IN_A_ROW_MAX
            return memoized <= KEPT_MEMO_MAX
        if self.small_left == 0:
            return True
        self.small_left -= 1
        return self.small_left != 0


# The pickler of this process; None while a call uses it.  A call that comes in the middle of
# another's dump (from a __reduce__, a finalizer, a signal handler, another thread) thus makes
# its own; so does a child that was forked meanwhile.
cdef KeptPickler kept_pickler = None


cdef bint is_array(object obj) except -1:
    """Whether obj is a NumPy array; without importing NumPy."""
    numpy = _modules.get("numpy")
    if numpy is None:
        return False
    array = getattr(numpy, "ndarray", None)
    return isinstance(array, type) and isinstance(obj, array)


cdef Py_ssize_t count_memoized(bytes pickled) noexcept:
    """How many objects were memoized for a pickle, about."""
    cdef const char *data = PyBytes_AS_STRING(pickled)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(pickled), count = 0, i
    cdef uint64_t word
    # It takes an opcode of its own, after one of the object's.
    if size <= 2 * SMALL_MEMO_MAX:
        return 0
    # The opcode is 0x94.  Eight bytes at a time: the high bit of each that is equal, then the sum
    # of these bits.  Other bytes that are equal do no harm, nor do the last few left out.
    for i in range(0, size - 7, 8):
        memcpy(&word, data + i, 8)
        word ^= <uint64_t>0x9494949494949494
        word = ~(((word & <uint64_t>0x7F7F7F7F7F7F7F7F) + <uint64_t>0x7F7F7F7F7F7F7F7F) | word)
        word &= <uint64_t>0x8080808080808080
        count += ((word >> 7) * <uint64_t>0x0101010101010101) >> 56
    return count


cdef bytes pickle_with_buffers(object obj, list out_of_band):
    """The pickle of obj, with the reducers of multiprocessing.reduction and copyreg.

    Appends to out_of_band the PickleBuffers (contiguous, OOB_MIN bytes or more) whose content is
    not in the pickle, in the order in which loads() wants it; None: all is in the pickle.  After
    an exception the list is to be thrown away.
    """
    global kept_pickler
    cdef KeptPickler own = kept_pickler
    cdef bytes result
    kept_pickler = None
    if own is None:
        own = KeptPickler()
    own.writer.out_of_band = out_of_band
    # After an exception the pickler is dropped, and with it all that it refers to: it may be in
    # the middle of a frame.
    try:
        own.dump(obj)
    finally:
        own.writer.end()
    # May call finalizers, which may come back here.
    own.clear_memo()
    result = own.writer.taken()
    if kept_pickler is None and own.is_worth_keeping(result):
        kept_pickler = own
    return result


cdef object unpickle(object data, object buffers):
    """The object of a pickle; buffers: what lies out of band, in order, or None."""
    if buffers is None:
        return _loads(data)
    return _loads(data, buffers=buffers)


def dumps(obj):
    """Return the pickle of obj, with the reducers of multiprocessing.reduction."""
    return pickle_with_buffers(obj, None)


def loads(data, buffers=None):
    """Return the object that a pickle stands for; buffers: what lies out of band, in order."""
    return unpickle(data, buffers)


def debug_pickle(obj):
    """Return (pickle, PickleBuffers out of band); for tests."""
    buffers = []
    return pickle_with_buffers(obj, buffers), buffers
