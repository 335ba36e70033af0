# _queue_many.pxi - put_many() and get_many(): a list of objects to a batch and back, and what
# becomes of those in hand when an exception comes between. The queue itself is _queue.pxi's.

from cpython.list cimport PyList_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from libc.stdlib cimport free

cdef class TakenBatch:
    """Messages that were taken together, until their objects are made."""

    cdef fipc_many many
    cdef list made          # objects that were ready when an exception came
    cdef uint8_t storage[FIPC_BATCH_BYTES]  # behind a pointer, so aligned to 8

    def __cinit__(self):
        self.many.buffer = self.storage
        self.made = []

    cdef Py_ssize_t count(self):
        return len(self.made) + self.many.items - self.many.items_read


# ---- putting ----

cdef object annotate(object error, str name, object value):
    """Sets an attribute of an exception, which may refuse; it is then raised without."""
    try:
        setattr(error, name, value)
    except Exception:
        pass


cdef object describe_item(object error, Py_ssize_t index):
    """Makes an error of pickling say which item it was."""
    text = f"this was item {index} of those given to put_many(), of which none was put"
    annotate(error, "item_index", index)
    try:
        if hasattr(error, "add_note"):
            error.add_note(text)
        elif len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]} ({text})",)
    except Exception:
        # As in annotate().
        pass


cdef object encode_item(QueueBase self, object obj, uint8_t *room, message *out):
    """Fills out, pointing into room or into what is returned."""
    cdef Py_buffer view
    cdef list buffers
    cdef bytes pickled
    if self.custom:
        serialize(self.serializer, obj, self, &view)
        try:
            pickled = PyBytes_FromStringAndSize(<const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        out.tag = FASTIPC_TAG_RAW
    elif encode_plain(obj, room, out):
        return obj
    else:
        buffers = []
        pickled = pickle_with_buffers(obj, buffers)
        out.tag = FASTIPC_TAG_PICKLE
        if buffers:
            pickled = flatten(pickled, buffers)
            out.tag = FASTIPC_TAG_BUFFERS
    out.data = PyBytes_AS_STRING(pickled)
    out.size = PyBytes_GET_SIZE(pickled)
    return pickled


cdef int fill_batch(
    QueueBase self, fipc_batch *batch, list objects, Py_ssize_t index, list kept, list skipped
) except -1:
    """Encodes all objects from `index` on; `kept` holds what large messages point into."""
    cdef message out
    cdef uint8_t *room
    cdef Py_ssize_t size
    cdef int rc
    while index < len(objects):
        if not self.custom:
            index += fastipc_batch_add_ints(batch, objects, index)
            if index == len(objects):
                break
        obj = objects[index]
        room = fipc_batch_room(batch)
        if room == NULL:
            raise_status(-ENOMEM, self)
        if not self.custom and not PyBytes_CheckExact(obj):
            # What encode() would do first, without its price for each of many.
            size = fastipc_encode(obj, room, SCRATCH_BYTES)
            if size >= 0:
                fipc_batch_add(batch, <uint32_t>size, FASTIPC_TAG_CODED)
                index += 1
                continue
        try:
            keep = encode_item(self, obj, room, &out)
        except Exception as error:
            if not self._pickling_failed(error, obj):
                describe_item(error, index)
                raise
            skipped.append(index)
        else:
            # Buffers are read where they lie: in a block, however small.
            if out.size <= FIPC_INLINE_MAX and out.tag != FASTIPC_TAG_BUFFERS:
                if out.data != room:
                    memcpy(room, out.data, out.size)
                fipc_batch_add(batch, <uint32_t>out.size, out.tag)
            else:
                rc = fipc_batch_add_large(batch, out.data, out.size, out.tag)
                if rc < 0:
                    raise_status(rc, self)
                kept.append(keep)
        index += 1
    return 0


cdef object put_all(QueueBase self, object items, object block, object timeout):
    """QueueBase.put_many()."""
    cdef uint64_t count = 0
    try:
        put_objects(self, items, block, timeout, &count)
    except BaseException as error:
        annotate(error, "put_count", count)
        raise


cdef int put_objects(
    QueueBase self, object items, object block, object timeout, uint64_t *count
) except -1:
    """Puts all; on error *count says how many of the first are in the queue, or were refused
    by a subclass that has dealt with them."""
    cdef fipc_batch batch
    cdef int64_t deadline = deadline_of(block, timeout)
    cdef list objects, kept, skipped = None
    cdef Py_ssize_t ints = 0
    self.enter()
    fipc_batch_begin(&batch, self.spare_records)
    self.spare_records = NULL
    try:
        if not self.custom and (PyList_CheckExact(items) or PyTuple_CheckExact(items)):
            # No code runs that could change a list meanwhile.
            ints = fastipc_batch_add_ints(&batch, items, 0)
        if ints == 0 or ints != len(items):
            objects, kept, skipped = list(items), [], []
            fill_batch(self, &batch, objects, ints, kept, skipped)
        if self.closed:
            self.fail(-ECANCELED)
        if batch.items == 0:
            # put() would say so, too.
            if fipc_queue_shut_state(self.queue) != 0:
                raise ShutDown
        elif fipc_queue_try_put_many(self.queue, &batch) != 0:
            put_rest(self, &batch, deadline)
    except BaseException:
        count[0] = batch.put_items
        if skipped:
            for index in skipped:
                count[0] += index <= count[0]
        raise
    finally:
        if self.spare_records == NULL:
            self.spare_records = fipc_batch_spare(&batch)
        if batch.run.block_count != 0:
            with nogil:
                fipc_batch_end(self.queue, &batch)
        else:
            fipc_batch_end(self.queue, &batch)
        self.leave()
    return 0


cdef int put_rest(QueueBase self, fipc_batch *batch, int64_t deadline) except -1:
    cdef fipc_queue_putting putting
    cdef int rc
    memset(&putting, 0, sizeof(putting))
    self.used = True
    try:
        while True:
            with nogil:
                rc = fipc_queue_put_many(self.queue, batch, deadline, &putting)
            if rc != -EINTR:
                break
            check_signals()
    finally:
        with nogil:
            fipc_queue_put_end(self.queue, &putting)
    if rc == 0:
        return 0
    if rc == -ETIMEDOUT:
        raise Full(f"{batch.put_items} of {batch.items} items were put")
    if rc == -E2BIG:
        raise ValueError(
            f"a message of {batch.largest_bytes} bytes can never fit into {self!r}: its max_bytes "
            f"is {self.queue.segment.header.max_bytes}; none of the items was put"
        )
    return self.fail(rc)


# ---- getting ----

cdef list get_all(QueueBase self, Py_ssize_t most, int64_t deadline, bint copies):
    """QueueBase.get_many()."""
    cdef TakenBatch taken
    cdef list made = []
    self.enter()
    taken, self.spare_batch = self.spare_batch, None
    try:
        if taken is None:
            taken = TakenBatch()
        while len(made) < most and self.has_stash():
            made.append(self.unstash(copies))
        if made:
            return made
        while True:
            taken.many.max_items = most - len(made)
            if fipc_queue_try_get_many(self.queue, &taken.many) != 0:
                if not wait_for_many(self, taken, 0 if made else deadline, len(made) != 0):
                    break
            if not made:
                made = fastipc_list_with_room(taken.many.items)
            make_objects(self, taken, made, copies)
            if (len(made) >= most or self.closed
                    or fipc_channel_is_empty(&self.queue.channel)):
                break
    except BaseException:
        if taken is not None and (made or taken.count()):
            keep_taken(self, taken, made)
            taken = None
        raise
    finally:
        self.spare_batch = taken
        self.leave()
    return made


cdef bint wait_for_many(
    QueueBase self, TakenBatch taken, int64_t deadline, bint has_some
) except -1:
    """Takes messages, waiting for the first; False if there are none and some are in hand."""
    cdef fipc_waiting waiting
    cdef int rc
    memset(&waiting, 0, sizeof(waiting))
    self.used = True
    while True:
        with nogil:
            rc = fipc_queue_get_many(self.queue, &taken.many, deadline, &waiting)
        if rc != -EINTR or has_some:
            break
        check_signals()
    if rc == 0:
        return True
    if has_some:
        # The next call meets the same, with nothing in hand.
        return False
    if rc == -ETIMEDOUT:
        raise Empty
    self.fail(rc)


cdef int make_objects(QueueBase self, TakenBatch taken, list made, bint copies) except -1:
    cdef const uint8_t *data
    cdef uint32_t size = 0, first = taken.many.items_read
    cdef uint16_t tag = 0
    try:
        while taken.many.items_read < taken.many.items:
            if not self.custom:
                fastipc_many_make_ints(&taken.many, made)
                if taken.many.items_read == taken.many.items:
                    break
            data = fipc_many_next_inline(&taken.many, &size, &tag)
            if data == NULL:
                made.append(next_object(self, taken, copies))
            elif self.custom:
                made.append(deserialize(self.serializer, copy_out(data, size), tag, self))
            elif tag == FASTIPC_TAG_CODED:
                fastipc_list_add(made, fastipc_decode_ref(data, size))
            else:
                made.append(decode(data, size, tag))
    finally:
        self.count_given(taken.many.items_read - first)
    return 0


cdef int step(QueueBase self, TakenBatch taken, fipc_got *got) except -1:
    """Fills got with the next message, which counts as handled from then on."""
    cdef int rc = fipc_many_peek(&self.queue.channel, &taken.many, got)
    if rc < 0:
        # What is whole of its blocks is given back, and those behind it are kept.
        fipc_many_drop(&self.queue.channel, &taken.many, 1)
        self.fail(rc)
    fipc_many_step(&taken.many, got)
    return 0


cdef object next_object(QueueBase self, TakenBatch taken, bint copies):
    cdef fipc_got got
    step(self, taken, &got)
    if got.block_count != 0:
        return self.decode_block(&got, copies)
    if self.custom:
        return deserialize(self.serializer, copy_out(got.buffer, got.size_bytes), got.tag, self)
    return decode(got.buffer, got.size_bytes, got.tag)


cdef bytes next_message(QueueBase self, TakenBatch taken):
    cdef fipc_got got
    step(self, taken, &got)
    if got.block_count != 0:
        return block_bytes(self, &got)
    return as_bytes(copy_out(got.buffer, got.size_bytes), got.tag)


# ---- what is kept for the next call ----

cdef int keep_taken(QueueBase self, TakenBatch taken, list made) except -1:
    cdef StashedMessage aside
    if self.stash and isinstance(self.stash[0], StashedMessage):
        # For want of memory one of them was put aside: it stands between made and taken.
        aside = self.stash[0]
        aside.before = made + (aside.before or [])
        if taken.count() != 0:
            self.stash.insert(1, taken)
        return 0
    taken.made = made
    return self.stash_first(taken)


cdef int drop_before_last(QueueBase self, TakenBatch taken) except -1:
    """Forgets a batch whose last message is about to be read: whoever comes meanwhile, from
    the message's own code or another thread, must not find it empty."""
    if taken.count() == 1 and self.stash and self.stash[0] is taken:
        del self.stash[0]
    return 0


cdef object unstash_object(QueueBase self, TakenBatch taken, bint copies):
    drop_before_last(self, taken)
    if taken.made:
        return taken.made.pop(0)
    try:
        return next_object(self, taken, copies)
    finally:
        self.count_given(1)


cdef Py_ssize_t count_stashed(list stash):
    cdef Py_ssize_t count = 0
    if stash:
        for one in stash:
            if isinstance(one, TakenBatch):
                count += (<TakenBatch>one).count()
            else:
                count += 1 + len((<StashedMessage>one).before or ())
    return count
