# _signals.pxi - what a blocked call looks at between two waits.

# How many handles are under way to other processes, and what closes those that have arrived:
# _handles.py's. A kept end of a pipe would hide its end of file, so whoever waits looks.
cdef int lent_count = 0
cdef object settle_lent = None


def set_lent(int count, settle):
    """Say how many handles are under way, and who looks after them."""
    global lent_count, settle_lent
    lent_count = count
    settle_lent = settle
    # A kept end of a pipe must not hide its end of file for longer than that.
    fipc_waiting_set_chores(count != 0)


cdef inline int check_signals() except -1:
    """Between two waits: signal handlers, and handles that have arrived."""
    PyErr_CheckSignals()
    if lent_count:
        settle_lent()
    return 0
