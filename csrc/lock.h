/* lock.h - the lock that outlives its owner: a futex word that names the slot of
 * whoever holds it. Knows who is dead from slots.h; repairs nothing itself: who
 * gets 1 from fipc_lock_wait() took the lock from the dead and must repair. */
#ifndef FIPC_LOCK_H
#define FIPC_LOCK_H

#include "segment.h"

/* Takes a free lock: 0, or -EBUSY. The segment must have been entered. */
FIPC_ALWAYS_INLINE int fipc_lock_try(const struct fipc_segment *segment, uint32_t *lock) {
    /* L1, acquire, pairs with L2 in fipc_lock_release: what the last owner wrote. */
    return fipc_likely(fipc_cas32_seqcst(L1, lock, 0, segment->lock_word)) ? 0 : -EBUSY;
}

/* Takes the lock, waiting until deadline_ns. 0: taken; 1: taken over from an owner
 * that died, the caller repairs what the lock protects. Errors: -ETIMEDOUT; -EINTR,
 * a signal handler ran; -EBADMSG, the word names no slot; -EBADF, the memory file's
 * descriptor is gone, so nobody can tell whether the owner lives. */
FIPC_MUST_USE int fipc_lock_wait(const struct fipc_segment *segment, uint32_t *lock,
                                 int64_t deadline_ns);

void fipc_lock_wake(uint32_t *lock);

/* Gives the lock back and wakes one who waits for it. A full barrier: what the
 * caller loads afterwards is not older than the unlock. */
FIPC_ALWAYS_INLINE void fipc_lock_release(uint32_t *lock) {
    /* L2, release, pairs with L1; sequentially consistent because callers then ask
     * whether somebody sleeps (W1 in wait.h). step lock-release. */
    uint32_t word = fipc_exchange32_seqcst(L2, lock, 0);

    if (fipc_unlikely(word & FIPC_LOCK_WAITERS))
        fipc_lock_wake(lock);
}

#endif
