"""How a queue or the end of a pipe travels to another process.

While a process is being spawned, its descriptors are handed over as multiprocessing's own are.  At
any other time a handle is only named: by its segment, and by where its descriptors can be found.
The receiver looks among its own, then in the sender, then in every process that it may look into.
Owns no format below the descriptors and no hot path.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen

from . import _core

# Weak references to the live objects, by their own identity: a WeakValueDictionary, or a key
# that has to be made, would be a tenth of what a queue takes to make.
_attached: dict[int, weakref.ref] = {}

# Descriptors kept open for handles that are under way, so that the sender may close its object
# right after sending: (segment, class) -> an object of its own.
_lent: dict[tuple, object] = {}


def register(handle) -> None:
    """Remember a live object, so that a later pickle of it need not leave this process."""
    reference = weakref.ref(handle, _forget)
    _attached[id(reference)] = reference


def _forget(reference) -> None:
    _attached.pop(id(reference), None)


def attached() -> list:
    """The live objects that were registered."""
    # list(): copied at one stroke, since other threads, and the garbage collector, come and go.
    live = (reference() for reference in list(_attached.values()))
    return [handle for handle in live if handle is not None]


def spawning() -> bool:
    """Tell whether a process is being spawned in this thread."""
    return get_spawning_popen() is not None


def reduce_handle(rebuild, handle, state):
    """Reduce a handle to what rebuild(state, descriptors) makes it from, in another process."""
    if spawning():
        descriptors = [None if fd < 0 else reduction.DupFd(fd) for fd in _descriptors(handle)]
        return _rebuild_spawned, (rebuild, type(handle), state, descriptors)
    if _lent:
        settle()
    descriptors = _descriptors(handle)
    identity = handle._identity()
    return _rebuild_named, (
        rebuild,
        type(handle),
        state,
        identity,
        os.getpid(),
        descriptors,
        _Departure(rebuild, handle, state, descriptors, identity),
    )


class _Departure:
    """A handle's name, which counts the handle as under way when it is pickled.

    Stands last in what is pickled of the handle: once its turn comes, the state, which is the
    user's in part, has been pickled without an error.
    """

    def __init__(self, *handle):
        self._handle = handle

    def __reduce__(self):
        _keep(*self._handle)
        return str, (repr(self._handle[1]),)


def settle() -> bool:
    """Close what was kept for handles that have arrived since; return whether some have not."""
    for key, keeper in list(_lent.items()):
        if keeper.closed or not keeper._has_claims_open():
            _lent.pop(key, None)
            keeper.close()
    _core.set_lent(len(_lent), settle)
    return bool(_lent)


def _descriptors(handle) -> list[int]:
    return list(handle._handles()[:3])


def _keep(rebuild, handle, state, descriptors, identity) -> None:
    key = (identity, os.getpid())
    if key not in _lent:
        _lent[key] = rebuild(type(handle), state, _duplicate(descriptors))
    handle._lend()
    _core.set_lent(len(_lent), settle)


def _duplicate(descriptors) -> list[int]:
    copies: list[int] = []
    try:
        for fd in descriptors:
            copies.append(-1 if fd < 0 else os.dup(fd))
    except OSError:
        _close(copies)
        raise
    return copies


def _close(descriptors) -> None:
    for fd in descriptors:
        if fd >= 0:
            os.close(fd)


def _rebuild_spawned(rebuild, cls, state, descriptors):
    fds = [-1 if dup is None else dup.detach() for dup in descriptors]
    return rebuild(cls, state, fds)


def _rebuild_named(rebuild, cls, state, identity, pid, descriptors, name):
    if _lent:
        settle()
    fds = _find(identity, pid, descriptors)
    if fds is None:
        raise OSError(
            errno.ESRCH, f"{name} cannot be reached: no process that has it is left, or visible"
        )
    try:
        handle = rebuild(cls, state, fds)
    except BaseException:
        _close(fds)
        raise
    if not isinstance(name, _Departure):  # else copy.copy() calls, and nothing was pickled
        handle._claim()
    return handle


def _forget_lent() -> None:
    # In a forked child: what is under way is the parent's to keep. A copy of a pipe's end that
    # stayed open here would hide its end of file.
    keepers = list(_lent.values())
    _lent.clear()
    _core.set_lent(0, settle)
    for keeper in keepers:
        keeper.close()


os.register_at_fork(after_in_child=_forget_lent)


# ---- finding the descriptors of a segment ----


def _find(identity, pid, descriptors):
    """Descriptors of one's own for a segment and its pipes, or None."""
    for handle in attached() + list(_lent.values()):
        try:
            if not handle.closed and handle._identity() == identity:
                return _duplicate(_descriptors(handle))
        except (OSError, ValueError):
            continue
    found = _open_from(pid, descriptors, identity)
    if found is not None:
        return found
    for other in _processes():
        listed = _search(other, identity)
        if listed is not None:
            found = _open_from(other, listed, identity)
            if found is not None:
                return found
    return None


def _processes():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def _search(pid, identity):
    """The numbers under which a process has the segment and its pipes, or None."""
    wanted = identity[1:]
    numbers = [-1] * len(wanted)
    directory = f"/proc/{pid}/fd"
    try:
        entries = os.listdir(directory)
    except OSError:
        return None
    for entry in entries:
        path = f"{directory}/{entry}"
        try:
            inode = os.stat(path).st_ino
        except OSError:
            continue
        for place, expected in enumerate(wanted):
            if expected and inode == expected and _fits(path, place, len(wanted), expected):
                numbers[place] = int(entry)
    if all(number >= 0 or not expected for number, expected in zip(numbers, wanted)):
        return numbers
    return None


def _access(place, count):
    """How the descriptor at a place is used: memory file, then doorbell, or read and write end."""
    if place == 0 or count == 2:
        return os.O_RDWR
    return os.O_RDONLY if place == 1 else os.O_WRONLY


def _fits(path, place, count, inode) -> bool:
    """Is it what it should be?  The link is read first: nothing else is ever opened."""
    try:
        link = os.readlink(path)
    except OSError:
        return False
    if place == 0:
        return link.startswith("/memfd:fastipc:")
    if link != f"pipe:[{inode}]":
        return False
    if count == 2:
        return True
    # A pipe has both of its ends under one inode: the link's mode tells them apart.
    needed = stat.S_IRUSR if place == 1 else stat.S_IWUSR
    try:
        return bool(os.lstat(path).st_mode & needed)
    except OSError:
        return False


def _open_from(pid, numbers, identity):
    """Opens a process's descriptors anew, or None if they are not there any more."""
    wanted = identity[1:]
    opened: list[int] = []
    try:
        for place, (number, inode) in enumerate(zip(numbers, wanted)):
            if not inode:
                opened.append(-1)
                continue
            path = f"/proc/{pid}/fd/{number}"
            if os.stat(path).st_ino != inode or not _fits(path, place, len(wanted), inode):
                raise FileNotFoundError(path)
            flags = _access(place, len(wanted)) | os.O_CLOEXEC
            opened.append(os.open(path, flags | (os.O_NONBLOCK if place else 0)))
            if os.fstat(opened[-1]).st_ino != inode:
                raise FileNotFoundError(path)
            # Inodes, too, repeat in the long run.
            if place == 0 and os.pread(opened[0], 16, _core.ID_POS) != identity[0]:
                raise FileNotFoundError(path)
        return opened
    except OSError as error:
        _close(opened)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None
