/* fuzz_codec.c - the fuzzer of what turns messages into objects: the codec, and with the whole
 * extension inside of this process the messages of queues as they arrive, in records, blocks and
 * batches, and the handles. Python's side of it is codec_driver.py, which says what may be raised;
 * anything else ends the process here. pickle.loads() is a stand-in: what pickle does with hostile
 * bytes is not ours.
 *
 * An input is: what is done, how it is got, and what is put. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "_codec.h"
#include "queue.h"

#define QUEUES 3
#define BLOCKS_MOST 4
#define BLOCK_BYTES_MOST 24576

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
PyMODINIT_FUNC PyInit__core(void);

static PyObject *take, *decode, *rebuild, *change;
/* The same queues as the driver's, to put into. */
static struct fipc_queue *queues[QUEUES];

static void must(int holds, const char *what) {
    if (holds)
        return;
    if (PyErr_Occurred())
        PyErr_Print();
    fprintf(stderr, "fuzz_codec: %s\n", what);
    abort();
}

static PyObject *function_of(PyObject *module, const char *name) {
    PyObject *function = PyObject_GetAttrString(module, name);

    must(function != NULL, name);
    return function;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *seeds = getenv("FUZZ_SEEDS");
    PyObject *driver, *done;

    (void)argc;
    (void)argv;
    must(PyImport_AppendInittab("fastipc._core", PyInit__core) == 0, "the extension");
    Py_InitializeEx(0);
    driver = PyImport_ImportModule("tests.fuzz.codec_driver");
    must(driver != NULL, "the driver");
    if (seeds != NULL) {
        done = PyObject_CallMethod(driver, "write_seeds", "s", seeds);
        must(done != NULL, "the seeds");
        exit(0);
    }
    take = function_of(driver, "take");
    decode = function_of(driver, "decode");
    rebuild = function_of(driver, "rebuild");
    change = function_of(driver, "change");
    for (int i = 0; i < QUEUES; i++) {
        PyObject *fds = PyObject_CallMethod(driver, "descriptors", "i", i);
        int fd = -1, bell = -1;

        must(fds != NULL && PyArg_ParseTuple(fds, "ii", &fd, &bell), "descriptors");
        must(fipc_queue_open(fcntl(fd, F_DUPFD_CLOEXEC, 64), fcntl(bell, F_DUPFD_CLOEXEC, 64),
                             &queues[i]) == 0,
             "a second handle");
        Py_DECREF(fds);
    }
    return 0;
}

static void call(PyObject *function, const char *format, int number, const uint8_t *data,
                 size_t size) {
    PyObject *done = PyObject_CallFunction(function, format, number, data, (Py_ssize_t)size);

    must(done != NULL, "what the driver does not expect");
    Py_DECREF(done);
}

/* The codec alone, from memory that ends where the message does. */
static void decode_alone(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size + (size == 0));
    PyObject *object, *text;

    must(copy != NULL, "memory");
    memcpy(copy, data, size);
    object = fastipc_decode(copy, (Py_ssize_t)size);
    free(copy);
    if (object == NULL) {
        must(PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_SystemError) &&
                 !PyErr_ExceptionMatches(PyExc_AssertionError),
             "no proper error");
        PyErr_Clear();
        return;
    }
    /* Looks at all of it. */
    text = PyObject_Repr(object);
    must(text != NULL, "an object that cannot be shown");
    Py_DECREF(text);
    Py_DECREF(object);
}

/* Before the classes that it may name are changed, and after that. */
static void decode_twice(uint8_t changes, const uint8_t *data, size_t size) {
    call(change, "iy#", changes % 16, NULL, 0);
    decode_alone(data, size);
    call(change, "iy#", 32 + changes / 16, NULL, 0);
    decode_alone(data, size);
    call(change, "iy#", 0, NULL, 0);
}

static void put_inline(struct fipc_queue *queue, uint16_t tag, const uint8_t *data, size_t size) {
    struct fipc_queue_putting putting = {0};
    int rc;

    do
        rc = fipc_queue_put(queue, data, size, tag, 0, &putting);
    while (rc == -EINTR);
    fipc_queue_put_end(queue, &putting);
    must(rc == 0, "a put");
}

/* Of 16 bytes: what is claimed of the sizes; then what is inline, then what is in the blocks. */
static void put_in_blocks(struct fipc_queue *queue, uint16_t tag, const uint8_t *data,
                          size_t size) {
    struct fipc_queue_putting putting = {0};
    uint64_t room[BLOCKS_MOST], claimed[BLOCKS_MOST];
    uint32_t count, rest;
    int rc;

    if (size < 16)
        return;
    count = 1 + data[0] % BLOCKS_MOST;
    rest = (uint32_t)(data[1] | data[2] << 8) % FIPC_REST_MAX;
    if (rest > size - 16)
        rest = (uint32_t)(size - 16);
    for (uint32_t i = 0; i < count; i++) {
        room[i] = 1 + (uint64_t)data[3 + 3 * i] * 96;
        /* More than has memory would stay in the queue as damage: fuzz_records.c's. */
        claimed[i] = (uint64_t)(data[4 + 3 * i] | data[5 + 3 * i] << 8) %
                     (fipc_align_up(room[i], FIPC_PAGE) + 1);
    }
    do
        rc = fipc_queue_prepare(queue, room, count, 0, &putting);
    while (rc == -EINTR);
    must(rc == 0, "blocks");
    for (uint32_t i = 0; i < count; i++) {
        size_t bytes = size - 16 - rest < room[i] ? size - 16 - rest : room[i];

        memset(putting.block[i].data, 0, room[i]);
        memcpy(putting.block[i].data, data + 16 + rest, bytes);
    }
    rc = fipc_queue_put_prepared(queue, claimed, data + 16, rest, tag, 0, &putting);
    fipc_queue_put_end(queue, &putting);
    must(rc == 0, "a put in blocks");
}

/* Each message: tag, length (2 bytes), bytes; every second one goes in a block. */
static void put_batch(struct fipc_queue *queue, const uint8_t *data, size_t size) {
    struct fipc_queue_putting putting = {0};
    struct fipc_batch batch = {0};
    int rc;

    while (size >= 3 && batch.items < 40) {
        size_t length = (size_t)(data[1] | data[2] << 8) % FIPC_INLINE_MAX;
        uint16_t tag = data[0] % 16;

        if (length > size - 3)
            length = size - 3;
        if (data[0] & 0x80) {
            must(fipc_batch_add_large(&batch, data + 3, length, tag) == 0, "memory");
        } else {
            uint8_t *room = fipc_batch_room(&batch);

            must(room != NULL, "memory");
            memcpy(room, data + 3, length);
            fipc_batch_add(&batch, (uint32_t)length, tag);
        }
        data += 3 + length;
        size -= 3 + length;
    }
    do
        rc = fipc_queue_put_many(queue, &batch, 0, &putting);
    while (rc == -EINTR);
    must(rc == 0, "a batch");
    fipc_batch_end(queue, &batch);
    fipc_queue_put_end(queue, &putting);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fipc_queue *queue;
    uint8_t what, how;

    if (size < 3)
        return 0;
    what = data[0];
    how = data[1];
    queue = queues[how / 16 % QUEUES];
    switch (what % 8) {
    case 0:
    case 1:
        decode_alone(data + 2, size - 2);
        return 0;
    case 2:
        decode_twice(how, data + 2, size - 2);
        return 0;
    case 3:
        call(decode, "iy#", data[1] % 16, data + 2, size - 2);
        return 0;
    case 4:
        put_inline(queue, data[2] % 16, data + 3, size - 3);
        break;
    case 5:
        put_in_blocks(queue, data[2] % 16, data + 3, size - 3);
        break;
    case 6:
        put_batch(queue, data + 2, size - 2);
        break;
    default:
        call(rebuild, "iy#", how, data + 2, size - 2);
        return 0;
    }
    call(take, "iy#", how, NULL, 0);
    return 0;
}
