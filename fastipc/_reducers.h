/* _reducers.h - the dispatch table of our picklers: what is registered with
 * multiprocessing.reduction and with copyreg at the moment of each look-up. */
#ifndef FASTIPC_REDUCERS_H
#define FASTIPC_REDUCERS_H

#include <Python.h>

/* A new mapping from types to reducers. `forking_pickler` is the class whose
 * _extra_reducers come first, `copyreg_table` the dict that is asked after it. */
PyObject *fastipc_reducers_new(PyObject *forking_pickler, PyObject *copyreg_table);

#endif
