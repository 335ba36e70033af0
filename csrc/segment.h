/* segment.h - a memory file and this process's view of it: create, attach, map
 * chunks, reserve memory, notice a fork. Does not know what lies in the segment
 * beyond its header; who is attached is slots.h's. */
#ifndef FIPC_SEGMENT_H
#define FIPC_SEGMENT_H

#include "atomics.h"
#include "layout.h"
#include "os.h"

struct fipc_segment_config {
    uint32_t kind;          /* FIPC_KIND_* */
    uint32_t channel_count; /* 1 or 2 */
    uint64_t maxsize;       /* items, 0: no limit */
    uint64_t max_bytes;     /* bytes, 0: no limit */
    const char *label;      /* UTF-8 or NULL; cut at 63 bytes */
};

struct fipc_segment {
    int fd;          /* the memory file; the program may close it behind our back */
    uint64_t inode;  /* so that a reused number is noticed */
    uint64_t length; /* file length seen last; only grows */
    uint8_t *chunk[FIPC_CHUNK_COUNT]; /* NULL: not mapped yet; never moves */
    /* As in the header, which nobody need touch for them. */
    uint8_t id[16];
    uint64_t maxsize;
    uint64_t max_bytes;
    char label[64];
    /* NULL until fipc_segment_map(). */
    struct fipc_header_shm *header;
    struct fipc_slot_shm *slots;
    struct fipc_arena_shm *arena;
    /* This process's place among the attached; renewed after a fork. */
    uint64_t fork_token; /* 0: no slot claimed yet */
    uint64_t owner;      /* FIPC_OWNER of our slot */
    uint32_t slot;
    uint32_t slot_gen;
    uint32_t lock_word; /* what we write into a lock that we take */
    void *slot_pin;     /* the mapping that keeps our slot's file lock */
    /* Under the process lock: blocks that views lie over (hold.h), and whether the rest
     * of this process is done with the segment. */
    uint32_t hold_count;
    bool detach_due;
    struct fipc_shared_slot *sharing; /* while a fork is prepared */
    bool may_own;     /* blocks may belong to our slot; set by whoever takes one, never cleared */
    bool child_views; /* a child may view some of them, since there was no slot to share */
    /* Trimming: how long the arena has rested, as this process sees it. */
    int64_t trim_since_ns;
    uint64_t trim_traffic;
    int64_t sweep_checked_ns;
    /* Hints: the block behind the one taken last, and how many were taken since one more was. */
    uint32_t next_block;
    uint32_t since_spread;
};

/* Creates a segment with its channels' first rings, whose memory the first process to
 * enter reserves, and takes it in as `segment`. It is not mapped: whoever enters is the
 * first to need that. Errors: -ENOMEM, -ENOSPC, -EFBIG (fipc_limit_name() says which limit),
 * -EMFILE, -ENFILE. Nothing is left over on error. */
FIPC_MUST_USE int fipc_segment_create(struct fipc_segment *segment,
                                      const struct fipc_segment_config *config);

/* Attaches to the segment behind `fd`, which then belongs to `segment`. Errors:
 * -EINVAL, not a segment of ours or of another version (fd stays the caller's);
 * -ENOMEM; -EBADF. */
FIPC_MUST_USE int fipc_segment_open(struct fipc_segment *segment, int fd, uint32_t kind);

/* Attaches `second` to the segment of `first`, with a descriptor of its own. It is not
 * mapped. Errors: -EMFILE. */
FIPC_MUST_USE int fipc_segment_share(struct fipc_segment *second, const struct fipc_segment *first);

/* Maps chunk 0 and finds header, slots and arena, if that was not done yet: before anybody
 * looks at them who has not entered. Errors: -ENOMEM; -EBADF. */
FIPC_MUST_USE int fipc_segment_map(struct fipc_segment *segment);

/* Has any process ever entered? Asks the file, so as not to touch a page for it; a process
 * that is about to enter may be missed. */
FIPC_MUST_USE bool fipc_segment_was_entered(const struct fipc_segment *segment);

/* Reserves the memory of the first rings; for the first process that enters. Errors:
 * -EBADMSG; those of fipc_segment_reserve(). */
FIPC_MUST_USE int fipc_segment_reserve_first(struct fipc_segment *segment);

/* Gives the slot and the descriptor back; what is mapped can still be read. While views
 * hold blocks, that is put off until the last of them is gone. */
void fipc_segment_detach(struct fipc_segment *segment);

/* Gives the slot back, unmaps all, closes the descriptor if it is still ours. */
void fipc_segment_close(struct fipc_segment *segment);

/* 0 when `fd` is still the descriptor it was; -EBADF when the program closed or
 * reused it. Slow paths ask before they trust the number. */
FIPC_MUST_USE int fipc_segment_fd_is_ours(const struct fipc_segment *segment);

/* The address of [offset, offset + size), which must lie in one chunk and inside
 * the file; maps the chunk if need be (a system call: not under a lock). Errors:
 * -EBADMSG, no such place; -ENOMEM; -EBADF. */
FIPC_MUST_USE int fipc_segment_at(struct fipc_segment *segment, uint64_t offset, uint64_t size,
                                  void **address);

/* The same without a system call: -ESTALE when the chunk is not mapped yet. */
FIPC_MUST_USE int fipc_segment_peek(const struct fipc_segment *segment, uint64_t offset,
                                    uint64_t size, void **address);

/* The chunk that holds `offset`, which may lie beyond the file's end: is it mapped? Maps it (a
 * system call: not under a lock). Errors: -EBADMSG, no such place; -ENOMEM; -EBADF. */
bool fipc_segment_has_chunk(const struct fipc_segment *segment, uint64_t offset);
FIPC_MUST_USE int fipc_segment_map_chunk(struct fipc_segment *segment, uint64_t offset);

/* Memory behind [offset, offset + size); see fipc_os_reserve(). */
FIPC_MUST_USE int fipc_segment_reserve(struct fipc_segment *segment, uint64_t offset,
                                       uint64_t size);

/* Name of the limit that the last -ENOMEM/-ENOSPC/-EFBIG of this thread met. */
const char *fipc_limit_name(void);
void fipc_set_limit_name(const char *name);

/* The process's fork token: reads 0 right after a fork. */
extern uint64_t *fipc_fork_token_page;

/* True when `token` was taken in this very process. */
FIPC_ALWAYS_INLINE bool fipc_token_is_current(uint64_t token) {
    return fipc_likely(token != 0 && fipc_load_relaxed(fipc_fork_token_page) == token);
}

/* Maps chunk 0, and claims a slot for this process if it has none (first use, or after a fork).
 * Returns 1 when one was claimed, 0 when there was one. Errors: -EUSERS, 4096
 * processes are attached; -EBADF; -EMFILE; -ENOMEM; -ENOENT without /proc. */
FIPC_MUST_USE int fipc_segment_enter(struct fipc_segment *segment);

/* Handles of a mapped segment that travel to other processes: one is lent when it is pickled
 * and claimed when it is unpickled. While some are not claimed, somebody keeps it open. */
FIPC_ALWAYS_INLINE void fipc_segment_lend(struct fipc_segment *segment) {
    (void)fipc_fetch_add_seqcst(Y1, &segment->header->lent, 1);
}
FIPC_ALWAYS_INLINE void fipc_segment_claim(struct fipc_segment *segment) {
    /* Y1, pairs with Y2: who sees the claim sees that its sender has got it, and lets go. */
    (void)fipc_fetch_add_seqcst(Y1, &segment->header->claimed, 1);
}
FIPC_ALWAYS_INLINE bool fipc_segment_is_lent(const struct fipc_segment *segment) {
    uint32_t claimed = fipc_load_seqcst(Y2, &segment->header->claimed); /* Y2 */

    return claimed < fipc_load_seqcst(Y2, &segment->header->lent);
}

/* The process-wide lock of slow paths (mapping, claiming); held for system calls,
 * never while a shared lock is held. Safe across fork. */
void fipc_process_lock(void);
void fipc_process_unlock(void);
/* Called before each fork, with the process lock held; NULL: nothing to do. */
extern void (*fipc_before_fork)(void);

#endif
