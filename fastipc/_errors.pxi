# _errors.pxi - negative errno values to exceptions, deadlines from timeouts. The only
# place that raises for a status of csrc/.

cdef int raise_status(int rc, object owner) except -1:
    """Raises what `rc` (a negative errno of csrc/) means for the object `owner`."""
    cdef int code = -rc
    if code in (ENOMEM, ENOSPC, EFBIG):
        limit = fipc_limit_name().decode("utf-8", "replace")
        raise MemoryError(f"no room for {owner!r}: {limit} is exhausted; nothing was lost")
    if code == EBADMSG:
        raise OSError(EBADMSG, f"the shared memory of {owner!r} is damaged")
    if code == EBADF:
        raise OSError(EBADF, f"a descriptor of {owner!r} was closed or reused by the program")
    if code == EUSERS:
        raise OSError(EUSERS, f"{owner!r} is attached by 4096 processes already")
    raise OSError(code, f"{_os.strerror(code)}: {owner!r}")


cdef int64_t deadline_after(object timeout) except? -1:
    """The monotonic time (ns) at which `timeout` seconds have passed; None: never."""
    cdef double seconds
    cdef int64_t now
    if timeout is None:
        return FIPC_FOREVER
    seconds = timeout
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    now = fipc_os_now_ns()
    if seconds <= 0:
        return 0
    if seconds >= 9.0e9:
        return FIPC_FOREVER
    # Rounded up: a wait must not end before its time.
    return now + <int64_t>(seconds * 1e9) + 1


cdef int64_t deadline_of(object block, object timeout) except? -1:
    """The deadline that `block` and `timeout` of a put or get mean."""
    return deadline_after(timeout) if block else 0
