/* _int_runs.h - ints in a row, to records of a batch and back, without a call for each: what
 * fastipc_encode() and fipc_batch_add() write, and fipc_many_next_inline() and fastipc_decode()
 * read, one by one. Batches of other objects are _queue_many.pxi's. */
#ifndef FASTIPC_INT_RUNS_H
#define FASTIPC_INT_RUNS_H

#include <Python.h>

#include "queue.h"

/* Adds the exact ints of up to 30 bits that the members from `first` on begin with: how many
 * they are. Fewer also for want of memory, without an exception. `members`: an exact list or
 * tuple. */
Py_ssize_t fastipc_batch_add_ints(struct fipc_batch *batch, PyObject *members, Py_ssize_t first);

/* Appends the ints that the next records stand for, as long as they are of 32 bits and `list` has
 * room: 0; -1 with MemoryError, then the record that it met is still the next one. */
int fastipc_many_make_ints(struct fipc_many *many, PyObject *list);

#endif
