/* slots.c - see slots.h. */
#define _GNU_SOURCE
#include "slots.h"

#include <fcntl.h>
#include <unistd.h>

#include "arena.h"

static uint32_t slot_high(const struct fipc_segment *segment) {
    uint32_t high = fipc_load_relaxed(&segment->header->slot_high);

    return high <= FIPC_SLOT_COUNT ? high : FIPC_SLOT_COUNT;
}

/* The slot table's first page is there from birth; later ones when first needed. Who is the
 * first of all also reserves the first rings' memory. Several may think that they are:
 * one who is late may put memory behind a ring that was given back, to no other harm. */
static int reserve_slot(struct fipc_segment *segment, uint32_t slot) {
    uint64_t offset = FIPC_OFF_SLOTS + (uint64_t)slot * sizeof(struct fipc_slot_shm);
    uint64_t page = offset & ~(uint64_t)(FIPC_PAGE - 1);

    if (slot < slot_high(segment))
        return 0;
    if (slot == 0)
        return fipc_segment_reserve_first(segment);
    if (offset != page)
        return 0;
    return fipc_segment_reserve(segment, page, FIPC_PAGE);
}

/* Raises slot_high to slot + 1, before the slot's state says that it is used. */
static void raise_slot_high(struct fipc_segment *segment, uint32_t slot) {
    uint32_t high = fipc_load_relaxed(&segment->header->slot_high);

    while (high < slot + 1 && !fipc_cas32_seqcst(E1, &segment->header->slot_high, high, slot + 1))
        high = fipc_load_relaxed(&segment->header->slot_high);
}

/* Sweeps a slot whose file lock we hold. It reads dead meanwhile, although it is locked:
 * nobody who waits for a lock of the dead waits for us, who may be stopped in here. */
static int sweep_slot(struct fipc_segment *segment, uint32_t slot) {
    struct fipc_slot_shm *shm = &segment->slots[slot];

    fipc_store_release(E1, &shm->state, FIPC_SLOT_DEAD); /* step sweep-mark */
    if (fipc_load_relaxed(&shm->pid) != 0)
        /* step sweep-pid: for stats() only. */
        fipc_store_relaxed(&segment->header->last_dead_pid, fipc_load_relaxed(&shm->pid));
    return fipc_arena_sweep(segment, slot, fipc_load_acquire(E2, &shm->gen));
}

/* For stats(): what the former owner did not return is lost as long as nobody says
 * otherwise (see stats.c), and we count from there. A slot that is only inherited takes
 * nothing, and its pid would be that of one who may live on. */
static void start_counting(struct fipc_slot_shm *shm, bool inherited) {
    for (int i = 0; i < 2; i++) {
        if (FASTIPC_BREAK_NO_LOSS)
            fipc_store_relaxed(&shm->given[i], fipc_load_relaxed(&shm->taken[i]));
        fipc_store_relaxed(&shm->taken[i], fipc_load_relaxed(&shm->given[i]));
        fipc_store_relaxed(&shm->getters[i], 0);
        fipc_store_relaxed(&shm->putters[i], 0);
    }
    fipc_store_relaxed(&shm->pid, inherited ? 0 : fipc_os_pid());
}

struct claim {
    uint32_t slot, gen;
    void *pin; /* the mapping that keeps the file lock */
};

static int claim_slot(struct fipc_segment *segment, bool inherited, struct claim *claim) {
    int rc, fd;

    rc = fipc_segment_fd_is_ours(segment);
    if (rc < 0)
        return rc;
    /* An open description of our own, so that the lock is this process's alone. */
    fd = fipc_os_reopen(segment->fd, O_RDWR);
    if (fd < 0)
        return fd;
    for (uint32_t slot = 0; slot < FIPC_SLOT_COUNT; slot++) {
        struct fipc_slot_shm *shm = &segment->slots[slot];
        uint32_t gen;

        rc = reserve_slot(segment, slot);
        if (rc < 0)
            goto out_close;
        /* step claim-lock: the slot is ours from here on; if we die, it is free again. */
        rc = fipc_os_lock_byte(fd, FIPC_SLOT_LOCK_POS + slot);
        if (rc == -EAGAIN)
            continue;
        if (rc < 0)
            goto out_close;
        gen = fipc_load_acquire(E2, &shm->gen);
        if (fipc_load_relaxed(&shm->state) != FIPC_SLOT_FREE) {
            rc = sweep_slot(segment, slot); /* its last owner was killed */
            if (rc < 0)
                goto out_close;
        }
        gen = gen + 1 == 0 ? 1 : gen + 1;
        rc = fipc_os_pin(fd, inherited, &claim->pin);
        if (rc < 0)
            goto out_close;
        raise_slot_high(segment, slot);
        start_counting(shm, inherited);
        /* E1, pairs with E2 in fipc_slots_is_alive(), which reads them in this order. */
        fipc_store_release(E1, &shm->gen, gen);              /* step claim-gen */
        fipc_store_release(E1, &shm->state, FIPC_SLOT_USED); /* step claim-state */
        claim->slot = slot;
        claim->gen = gen;
        rc = 0;
        goto out_close;
    }
    rc = -EUSERS;
out_close:
    (void)close(fd);
    return rc;
}

int fipc_slots_claim(struct fipc_segment *segment) {
    struct claim claim;
    int rc = claim_slot(segment, false, &claim);

    if (rc < 0)
        return rc;
    segment->slot = claim.slot;
    segment->slot_gen = claim.gen;
    segment->owner = FIPC_OWNER(claim.slot, claim.gen);
    segment->lock_word =
        (claim.slot + 1) | ((claim.gen & FIPC_LOCK_GEN_MASK) << FIPC_LOCK_SLOT_BITS);
    segment->slot_pin = claim.pin;
    return 0;
}

int fipc_slots_claim_shared(struct fipc_segment *segment, uint64_t *owner, void **pin) {
    struct claim claim;
    int rc = claim_slot(segment, true, &claim);

    if (rc < 0)
        return rc;
    *owner = FIPC_OWNER(claim.slot, claim.gen);
    *pin = claim.pin;
    return 0;
}

void fipc_slots_release(struct fipc_segment *segment) {
    struct fipc_slot_shm *shm;
    int rc = 0;

    if (segment->slot_pin == NULL || !fipc_token_is_current(segment->fork_token))
        return;
    shm = &segment->slots[segment->slot];
    /* What is still on its way to a caller was not lost: nobody was killed. */
    for (int i = 0; i < 2; i++)
        fipc_store_relaxed(&shm->given[i], fipc_load_relaxed(&shm->taken[i]));
    /* Messages that were taken and not returned when their queue was closed may lie in blocks,
     * and nobody sweeps a slot that is free. */
    if (segment->may_own && !segment->child_views)
        rc = fipc_arena_sweep(segment, segment->slot, segment->slot_gen);
    (void)rc; /* what cannot be mapped now stays as it is until the segment ends */
    fipc_store_release(E1, &shm->state, FIPC_SLOT_FREE); /* step slot-release */
    fipc_os_unmap(segment->slot_pin, FIPC_PAGE);
    segment->slot_pin = NULL;
    segment->fork_token = 0;
}

int fipc_slots_is_alive(const struct fipc_segment *segment, uint32_t slot, uint32_t gen) {
    const struct fipc_slot_shm *shm;
    int rc;

    if (slot >= FIPC_SLOT_COUNT || slot >= slot_high(segment))
        return -EBADMSG;
    if (slot == segment->slot && gen == segment->slot_gen)
        return 1;
    shm = &segment->slots[slot];
    /* The generation first: one that moved on means dead whatever the lock says;
     * one that has not moved, under a lock that is held, means alive, or that a new
     * owner is about to move it: asked again later. */
    if (fipc_load_acquire(E2, &shm->gen) != gen ||
        fipc_load_acquire(E2, &shm->state) != FIPC_SLOT_USED)
        return 0;
    rc = fipc_segment_fd_is_ours(segment);
    if (rc < 0)
        return rc;
    return fipc_os_byte_is_locked(segment->fd, FIPC_SLOT_LOCK_POS + slot);
}

int fipc_slots_lock_owner_is_alive(const struct fipc_segment *segment, uint32_t lock_word) {
    uint32_t slot = (lock_word & FIPC_LOCK_SLOT_MASK) - 1;
    uint32_t gen_bits = (lock_word >> FIPC_LOCK_SLOT_BITS) & FIPC_LOCK_GEN_MASK;
    uint32_t gen;

    if (slot >= FIPC_SLOT_COUNT || slot >= slot_high(segment))
        return -EBADMSG;
    gen = fipc_load_acquire(E2, &segment->slots[slot].gen);
    if ((gen & FIPC_LOCK_GEN_MASK) != gen_bits)
        return 0;
    return fipc_slots_is_alive(segment, slot, gen);
}

int fipc_slots_reap(struct fipc_segment *segment) {
    uint32_t high = slot_high(segment);
    int found = 0, fd = -1;

    /* Under the process lock, so that no fork copies the descriptor: a child would
     * keep the dead slots' locks held. */
    fipc_process_lock();
    for (uint32_t slot = 0; slot < high; slot++) {
        struct fipc_slot_shm *shm = &segment->slots[slot];
        uint32_t gen = fipc_load_acquire(E2, &shm->gen);

        if (fipc_load_acquire(E2, &shm->state) == FIPC_SLOT_FREE)
            continue;
        if (fipc_slots_is_alive(segment, slot, gen) != 0)
            continue;
        /* Hold the dead slot's lock while sweeping, so that nobody claims it before
         * the sweep has ended. Without a descriptor to spare, the next claimer
         * sweeps. */
        if (fd < 0)
            fd = fipc_os_reopen(segment->fd, O_RDWR);
        if (fd < 0)
            break;
        if (fipc_os_lock_byte(fd, FIPC_SLOT_LOCK_POS + slot) < 0)
            continue;
        if (fipc_load_acquire(E2, &shm->state) != FIPC_SLOT_FREE &&
            sweep_slot(segment, slot) == 0) {
            fipc_store_release(E1, &shm->state, FIPC_SLOT_FREE); /* step reap-free */
            found++;
        }
    }
    if (fd >= 0)
        (void)close(fd); /* drops the locks of all that were reaped */
    fipc_process_unlock();
    return found;
}
