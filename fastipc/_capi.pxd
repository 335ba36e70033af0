# _capi.pxd - the declarations of csrc/ and of the extension's own C files that the
# Cython code uses; nothing is declared anywhere else.
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<errno.h>" nogil:
    enum:
        ECANCELED
        EOWNERDEAD
        EDEADLK
        ENODATA
        EPROTO
        ESHUTDOWN

cdef extern from "os_room.h" nogil:
    void fipc_os_room_keep(uint64_t kept_ms)

cdef extern from "copy.h" nogil:
    enum:
        FIPC_COPY_LEARN_BYTES
    void fipc_copy(void *to, const void *from_, uint64_t bytes)
    void fipc_copy_out(void *to, const void *from_, uint64_t bytes, uint64_t whole_bytes)
    void fipc_copy_keep(bint past)

cdef extern from "_codec.h" nogil:
    enum:
        FASTIPC_TAG_PICKLE
        FASTIPC_TAG_RAW
        FASTIPC_TAG_CODED
        FASTIPC_TAG_BYTES
        FASTIPC_TAG_ASCII
        FASTIPC_TAG_BUFFERS

cdef extern from "_codec.h":
    Py_ssize_t fastipc_encode(object obj, uint8_t *buffer, Py_ssize_t size) noexcept
    object fastipc_decode(const uint8_t *data, Py_ssize_t size)
    int fastipc_check_ascii(object str) except -1
    bint fastipc_has_objects(const uint8_t *data, Py_ssize_t size) noexcept

    PyObject *fastipc_decode_ref "fastipc_decode"(const uint8_t *data, Py_ssize_t size) except NULL

cdef extern from "_lists.h":
    list fastipc_list_with_room(Py_ssize_t room)
    int fastipc_list_add(list members, PyObject *member) except -1

cdef extern from "_classes.h":
    int fastipc_classes_init(object forking_pickler, object table, object registry) except -1

cdef extern from "_codec_shapes.h":
    int fastipc_shapes_init(object loads, object error) except -1

cdef extern from "_reducers.h":
    object fastipc_reducers_new(object forking_pickler, object copyreg_table)

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(void *obj)
    const Py_buffer *PyPickleBuffer_GetBuffer(object buffer) except NULL

cdef extern from "os.h" nogil:
    int64_t fipc_os_now_ns()
    void fipc_os_huge(void *data, uint64_t bytes)
    int fipc_os_memfd_stat(int fd, uint64_t *inode, uint64_t *length, bint *sealed)
    int64_t fipc_os_allocated_bytes(int fd)
    int64_t FIPC_FOREVER

cdef extern from "layout.h" nogil:
    enum:
        FIPC_INLINE_MAX
        FIPC_REFS_MAX
        FIPC_FORMAT_VERSION
        FIPC_OFF_HEADER
    struct fipc_header_shm:
        uint8_t id[16]
        char label[64]
        uint64_t maxsize
        uint64_t max_bytes

cdef extern from "segment.h" nogil:
    struct fipc_segment:
        int fd
        uint64_t inode
        uint8_t id[16]
        char label[64]
        fipc_header_shm *header
    const char *fipc_limit_name()
    int fipc_segment_map(fipc_segment *segment)
    int fipc_segment_enter(fipc_segment *segment)
    int fipc_segment_fd_is_ours(const fipc_segment *segment)
    void fipc_segment_lend(fipc_segment *segment)
    void fipc_segment_claim(fipc_segment *segment)
    bint fipc_segment_is_lent(const fipc_segment *segment)

cdef extern from "slots.h" nogil:
    int fipc_slots_reap(fipc_segment *segment)

cdef extern from "wait.h" nogil:
    struct fipc_waiting:
        uint32_t rounds
        uint32_t is_fresh
    void fipc_waiting_set_chores(bint any)

cdef extern from "arena.h" nogil:
    bint fipc_arena_keeps(const fipc_segment *segment, uint64_t bytes)
    struct fipc_block_shm:
        pass
    struct fipc_block:
        fipc_block_shm *shm
        uint8_t *data
    struct fipc_arena_census:
        uint32_t blocks
        uint32_t free
        uint32_t owned
        uint32_t queued
        uint32_t rings
        uint32_t dead
        uint32_t group_numbers
        uint32_t groups
        uint32_t empty_groups
    void fipc_block_release(fipc_segment *segment, const fipc_block *block)
    void fipc_arena_trim_now(fipc_segment *segment)
    int fipc_arena_check(fipc_segment *segment, fipc_arena_census *census)

cdef extern from "channel.h" nogil:
    struct fipc_channel:
        pass
    struct fipc_got:
        void *buffer
        uint32_t buffer_bytes
        uint32_t length
        uint16_t tag
        fipc_block block
        uint64_t size_bytes
        uint32_t block_count
    enum:
        FIPC_BATCH_BYTES
    struct fipc_many:
        uint8_t *buffer
        uint64_t max_items
        uint32_t items
        uint32_t items_read
    int fipc_many_peek(fipc_channel *channel, const fipc_many *many, fipc_got *got)
    void fipc_many_step(fipc_many *many, const fipc_got *got)
    void fipc_many_drop(fipc_channel *channel, fipc_many *many, uint32_t items)
    const uint8_t *fipc_many_next_inline(fipc_many *many, uint32_t *length, uint16_t *tag)
    struct fipc_channel_census:
        uint64_t records
        uint64_t items
        uint64_t blocks
        uint64_t ring_bytes
    uint32_t fipc_got_rest_off(const fipc_got *got)
    int fipc_channel_got_block(const fipc_channel *channel, const fipc_got *got, uint32_t index,
                               fipc_block *block, uint64_t *size_bytes)
    int fipc_channel_enter(fipc_channel *channel)
    bint fipc_channel_is_empty(const fipc_channel *channel)
    void fipc_channel_depth(const fipc_channel *channel, uint64_t *items, uint64_t *bytes)
    void fipc_channel_count_given(fipc_channel *channel, uint64_t items)
    int fipc_channel_check(fipc_channel *channel, fipc_channel_census *census)

cdef extern from "stats.h" nogil:
    struct fipc_stats:
        uint64_t puts
        uint64_t gets
        uint64_t bytes_put
        uint64_t bytes_got
        uint64_t items
        uint64_t bytes
        uint64_t items_high
        uint64_t bytes_high
        uint64_t lost
        uint32_t getters
        uint32_t putters
        uint32_t recoveries
        uint32_t late_wakes
        uint32_t last_dead_pid
    int fipc_channel_stats(fipc_channel *channel, fipc_stats *stats, int64_t deadline_ns)

cdef extern from "hold.h" nogil:
    struct fipc_hold:
        fipc_block block
    void fipc_hold_take(fipc_hold *hold, fipc_segment *segment, const fipc_block *block)
    void fipc_hold_release(fipc_hold *hold)
    uint64_t fipc_hold_bytes()

cdef extern from "queue.h" nogil:
    enum:
        FIPC_REST_MAX
    struct fipc_queue:
        fipc_segment segment
        fipc_channel channel
        int doorbell_fd
        uint64_t doorbell_inode
    struct fipc_queue_config:
        uint64_t maxsize
        uint64_t max_bytes
        const char *label
    struct fipc_queue_putting:
        fipc_waiting waiting
        uint32_t block_count
        fipc_block *block
    int fipc_queue_create(const fipc_queue_config *config, fipc_queue **out)
    int fipc_queue_open(int fd, int doorbell_fd, fipc_queue **out)
    void fipc_queue_detach(fipc_queue *queue)
    void fipc_queue_close(fipc_queue *queue)
    void fipc_queue_keep(fipc_queue *queue)
    void fipc_queue_drop(fipc_queue *queue)
    void fipc_queue_cancel(fipc_queue *queue)
    int fipc_queue_try_put(fipc_queue *queue, const void *data, uint32_t size, uint16_t tag)
    int fipc_queue_put(fipc_queue *queue, const void *data, uint64_t size, uint16_t tag,
                       int64_t deadline_ns, fipc_queue_putting *putting)
    int fipc_queue_prepare(fipc_queue *queue, const uint64_t *size_bytes, uint32_t count,
                           int64_t deadline_ns, fipc_queue_putting *putting)
    int fipc_queue_put_prepared(fipc_queue *queue, const uint64_t *size_bytes, const void *rest,
                                uint32_t rest_bytes, uint16_t tag, int64_t deadline_ns,
                                fipc_queue_putting *putting)
    void fipc_queue_put_end(fipc_queue *queue, fipc_queue_putting *putting)
    bint fipc_queue_put_is_done(const fipc_queue_putting *putting)
    int fipc_queue_try_put_block(
        fipc_queue *queue, const void *data, uint64_t size_bytes, uint16_t tag,
        fipc_queue_putting *putting
    )
    int fipc_queue_try_get(fipc_queue *queue, fipc_got *got)
    int fipc_queue_get(fipc_queue *queue, fipc_got *got, int64_t deadline_ns,
                       fipc_waiting *waiting)
    struct fipc_run:
        uint32_t block_count
    struct fipc_batch:
        fipc_run run
        uint64_t items
        uint64_t largest_bytes
        uint64_t put_items
    void fipc_batch_begin(fipc_batch *batch, uint8_t *records)
    uint8_t *fipc_batch_spare(fipc_batch *batch)
    uint8_t *fipc_batch_room(fipc_batch *batch)
    void fipc_batch_add(fipc_batch *batch, uint32_t size, uint16_t tag)
    int fipc_batch_add_large(fipc_batch *batch, const void *data, uint64_t size, uint16_t tag)
    void fipc_batch_end(fipc_queue *queue, fipc_batch *batch)
    int fipc_queue_put_many(fipc_queue *queue, fipc_batch *batch, int64_t deadline_ns,
                            fipc_queue_putting *putting)
    int fipc_queue_try_put_many(fipc_queue *queue, fipc_batch *batch)
    int fipc_queue_get_many(fipc_queue *queue, fipc_many *many, int64_t deadline_ns,
                            fipc_waiting *waiting)
    int fipc_queue_try_get_many(fipc_queue *queue, fipc_many *many)
    void fipc_queue_release(fipc_queue *queue, fipc_got *got)
    int fipc_queue_task_done(fipc_queue *queue)
    int fipc_queue_join(fipc_queue *queue, int64_t deadline_ns, fipc_waiting *waiting)
    uint64_t fipc_queue_unfinished(const fipc_queue *queue)
    int fipc_queue_shutdown(fipc_queue *queue, bint immediate)
    int fipc_queue_shut_state(const fipc_queue *queue)
    bint fipc_queue_is_empty(const fipc_queue *queue)
    void fipc_queue_depth(const fipc_queue *queue, uint64_t *items, uint64_t *bytes)
    int fipc_queue_fileno(fipc_queue *queue)

cdef extern from "_int_runs.h":
    Py_ssize_t fastipc_batch_add_ints(fipc_batch *batch, object members, Py_ssize_t first)
    int fastipc_many_make_ints(fipc_many *many, list members) except -1

cdef extern from "conn.h" nogil:
    struct fipc_conn:
        fipc_segment segment
        fipc_channel out
        fipc_channel in_ "in"
        int read_fd
        int write_fd
        bint readable
        bint writable
        uint32_t end
        uint64_t read_inode
        uint64_t write_inode
    struct fipc_conn_sending "fipc_conn_send":
        uint64_t sent
    struct fipc_conn_receiving "fipc_conn_recv":
        uint64_t size
        uint16_t tag
        bint whole
    int fipc_pipe_create(bint duplex, const char *label, fipc_conn **a, fipc_conn **b)
    int fipc_conn_open(int memfd, int read_fd, int write_fd, uint32_t end, fipc_conn **conn)
    void fipc_conn_shut(fipc_conn *conn)
    void fipc_conn_close(fipc_conn *conn)
    int fipc_conn_try_send(fipc_conn *conn, const void *data, uint64_t size, uint16_t tag)
    int fipc_conn_send(fipc_conn *conn, const void *data, uint64_t size, uint16_t tag,
                       int64_t deadline_ns, fipc_conn_sending *state)
    void fipc_conn_send_abandon(fipc_conn *conn, fipc_conn_sending *state)
    int fipc_conn_try_recv(fipc_conn *conn, void *buffer, uint64_t *size, uint16_t *tag)
    int fipc_conn_recv_begin(fipc_conn *conn, void *small_buffer, int64_t deadline_ns,
                             fipc_conn_receiving *state)
    int fipc_conn_recv_into(fipc_conn *conn, void *buffer, int64_t deadline_ns,
                            fipc_conn_receiving *state)
    int fipc_conn_recv_keep(fipc_conn *conn, const void *buffer, fipc_conn_receiving *state)
    void fipc_conn_recv_drop(fipc_conn *conn, fipc_conn_receiving *state)
    int fipc_conn_poll(fipc_conn *conn, int64_t deadline_ns, fipc_conn_receiving *state)
    int fipc_conn_fileno(fipc_conn *conn, int64_t deadline_ns)
    int fipc_conn_fds_are_ours(const fipc_conn *conn)
