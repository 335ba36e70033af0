/* test_lock.c - lock.h and side.h: the lock that outlives its owner and the state in
 * two copies behind it, first quietly, then with owners that are killed at random. */
#define _GNU_SOURCE
#include "lock.h"

#include "fixture.h"
#include "side.h"

#include <sys/time.h>

/* A side that no queue uses: the second channel's. */
static struct fipc_side_shm *spare_side(const struct fipc_segment *segment) {
    return &fipc_segment_channel(segment, 1)->put;
}

static int lock_until(struct fipc_segment *segment, uint32_t *lock, int64_t deadline_ns) {
    int rc = fipc_lock_try(segment, lock);

    return rc == 0 ? 0 : fipc_lock_wait(segment, lock, deadline_ns);
}

static struct fipc_segment *new_entered_segment(void) {
    struct fipc_segment *segment = new_segment();

    CHECK_EQ(fipc_segment_enter(segment), 1);
    return segment;
}

/* ---- quietly ---- */

static void a_lock_is_taken_once_and_free_again_afterwards(void) {
    struct fipc_segment *segment = new_entered_segment();
    uint32_t *lock = &spare_side(segment)->lock;

    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    CHECK_EQ(fipc_lock_try(segment, lock), -EBUSY);
    CHECK_EQ(fipc_lock_wait(segment, lock, in_ms(20)), -ETIMEDOUT);
    fipc_lock_release(lock);
    CHECK_EQ(*lock, 0);
    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    fipc_lock_release(lock);
    drop_segment(segment);
}

static void a_lock_word_names_slot_and_generation(void) {
    struct fipc_segment *segment = new_entered_segment();
    uint32_t *lock = &spare_side(segment)->lock;

    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    CHECK_EQ(*lock & FIPC_LOCK_SLOT_MASK, segment->slot + 1);
    CHECK_EQ((*lock & ~FIPC_LOCK_WAITERS) >> FIPC_LOCK_SLOT_BITS, segment->slot_gen);
    CHECK_EQ(fipc_slots_lock_owner_is_alive(segment, *lock), 1);
    fipc_lock_release(lock);
    drop_segment(segment);
}

struct waiter {
    struct fipc_segment *segment;
    uint32_t *lock;
    struct gate gate;
    int rc;
};

static void *take_with_patience(void *argument) {
    struct waiter *waiter = argument;

    tell(&waiter->gate);
    waiter->rc = fipc_lock_wait(waiter->segment, waiter->lock, in_ms(PATIENCE_MS));
    if (waiter->rc >= 0)
        fipc_lock_release(waiter->lock);
    return NULL;
}

static void unlocking_wakes_who_waits(void) {
    struct fipc_segment *segment = new_entered_segment();
    uint32_t *lock = &spare_side(segment)->lock;
    struct waiter waiter = {attach_again(segment), lock, new_gate(), -1};
    pthread_t thread;

    CHECK_EQ(fipc_segment_enter(waiter.segment), 1);
    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    thread = check_thread(take_with_patience, &waiter);
    await(&waiter.gate);
    while (!(fipc_load_relaxed(lock) & FIPC_LOCK_WAITERS))
        sched_yield();
    fipc_lock_release(lock);
    check_thread_join(thread);
    CHECK_EQ(waiter.rc, 0);
    CHECK_EQ(*lock, 0);
    close_gate(&waiter.gate);
    drop_segment(waiter.segment);
    drop_segment(segment);
}

static void a_lock_word_that_names_no_slot_is_reported(void) {
    struct fipc_segment *segment = new_entered_segment();
    uint32_t *lock = &spare_side(segment)->lock;

    *lock = 77; /* slot 76, which nobody ever claimed */
    CHECK_EQ(fipc_lock_wait(segment, lock, in_ms(PATIENCE_MS)), -EBADMSG);
    *lock = FIPC_LOCK_SLOT_MASK; /* no such slot at all */
    CHECK_EQ(fipc_lock_wait(segment, lock, in_ms(PATIENCE_MS)), -EBADMSG);
    *lock = 0;
    drop_segment(segment);
}

static void a_waiter_whose_descriptor_is_gone_says_so(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_segment *other = attach_again(segment);
    uint32_t *lock = &spare_side(segment)->lock;

    CHECK_EQ(fipc_segment_enter(other), 1);
    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    close(other->fd);
    CHECK_EQ(fipc_lock_wait(other, lock, in_ms(PATIENCE_MS)), -EBADF);
    fipc_lock_release(lock);
    drop_segment(other);
    drop_segment(segment);
}

static void a_signal_handler_ends_the_wait(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_segment *other = attach_again(segment);
    uint32_t *lock = &spare_side(segment)->lock;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {{0, 50000000}, {0, 20000000}};
    int rc;

    check_handle_signal(SIGUSR1, SA_RESTART);
    CHECK_EQ(fipc_segment_enter(other), 1);
    CHECK_EQ(fipc_lock_try(segment, lock), 0);
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &soon, NULL));
    rc = fipc_lock_wait(other, lock, in_ms(PATIENCE_MS));
    CHECK_OK(timer_delete(timer));
    CHECK_EQ(rc, -EINTR);
    fipc_lock_release(lock);
    drop_segment(other);
    drop_segment(segment);
}

/* ---- owners that die ---- */

struct owner {
    struct fipc_segment *segment;
    struct gate taken;
};

static void take_and_keep(void *argument) {
    struct owner *owner = argument;

    CHECK_EQ(fipc_segment_enter(owner->segment), 1);
    CHECK_EQ(fipc_lock_try(owner->segment, &spare_side(owner->segment)->lock), 0);
    tell(&owner->taken);
    wait_to_be_killed();
}

/* The lock of an owner who was stopped (or not) and then killed. */
static void take_over_after(bool stop_first) {
    struct owner owner = {new_entered_segment(), new_gate()};
    uint32_t *lock = &spare_side(owner.segment)->lock;
    pid_t pid = check_fork(take_and_keep, &owner);

    await(&owner.taken);
    CHECK_EQ(lock_until(owner.segment, lock, in_ms(20)), -ETIMEDOUT);
    if (stop_first) {
        int status;

        CHECK_OK(kill(pid, SIGSTOP));
        CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status));
        /* Stopped is alive. */
        CHECK_EQ(lock_until(owner.segment, lock, in_ms(150)), -ETIMEDOUT);
    }
    kill_child(pid);
    CHECK_EQ(lock_until(owner.segment, lock, in_ms(PATIENCE_MS)), 1);
    fipc_lock_release(lock);
    CHECK_EQ(lock_until(owner.segment, lock, in_ms(PATIENCE_MS)), 0);
    fipc_lock_release(lock);
    close_gate(&owner.taken);
    drop_segment(owner.segment);
}

static void the_lock_of_a_killed_owner_is_taken_over(void) { take_over_after(false); }

static void the_lock_of_an_owner_stopped_and_killed_is_taken_over(void) { take_over_after(true); }

static void a_lock_is_taken_over_from_one_who_died_taking_it_over(void) {
    struct owner owner = {new_entered_segment(), new_gate()};
    uint32_t *lock = &spare_side(owner.segment)->lock;

    for (int i = 0; i < 3; i++) {
        pid_t pid;

        *lock = 0;
        pid = check_fork(take_and_keep, &owner);
        await(&owner.taken);
        kill_child(pid);
        pid = fork();
        CHECK_OK(pid);
        if (pid == 0) {
            if (fipc_segment_enter(owner.segment) != 1 ||
                fipc_lock_wait(owner.segment, lock, in_ms(PATIENCE_MS)) != 1)
                _exit(1);
            raise(SIGKILL); /* before any repair */
        }
        check_join_signal(pid, SIGKILL);
        CHECK_EQ(lock_until(owner.segment, lock, in_ms(PATIENCE_MS)), 1);
        fipc_lock_release(lock);
    }
    close_gate(&owner.taken);
    drop_segment(owner.segment);
}

static void take_over_under_a_timer(void *argument) {
    struct owner *owner = argument;
    struct itimerval often = {{0, 1000}, {0, 1000}};
    int rc, interrupts = 0;

    CHECK_EQ(fipc_segment_enter(owner->segment), 1);
    (void)alarm(0); /* the timer is the watchdog's; the count of interrupts bounds us */
    check_handle_signal(SIGALRM, 0);
    CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
    do {
        rc = lock_until(owner->segment, &spare_side(owner->segment)->lock, in_ms(PATIENCE_MS));
    } while (rc == -EINTR && ++interrupts < 20);
    memset(&often, 0, sizeof(often));
    CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
    CHECK_EQ(rc, 1);
}

static void a_timer_that_fires_every_millisecond_does_not_prevent_a_take_over(void) {
    struct owner owner = {new_entered_segment(), new_gate()};
    pid_t pid = check_fork(take_and_keep, &owner);

    await(&owner.taken);
    kill_child(pid);
    for (int i = 0; i < 5; i++) {
        uint32_t word = *(volatile uint32_t *)&spare_side(owner.segment)->lock;

        check_in_child(take_over_under_a_timer, &owner); /* leaves it locked, and dies */
        CHECK(spare_side(owner.segment)->lock != word);
    }
    close_gate(&owner.taken);
    drop_segment(owner.segment);
}

/* ---- the kill test ---- */

#define HAMMERS 6
#define KILLS_AT_LEAST FIXTURE_LESS(200, 60)

struct report {
    uint64_t taken;     /* times that this child had the lock; written by it alone */
    uint64_t published; /* states that it is known to have published */
    uint64_t taken_over;
    uint64_t torn; /* states that did not belong together, read with the lock or without */
    int64_t error; /* what fipc_lock_wait() said, if that was an error */
    uint64_t pad[3];
};

struct storm {
    struct fipc_segment *segment;
    struct report *reports; /* HAMMERS of them */
    uint32_t *inside;       /* who is in the critical section */
    uint64_t number;        /* of the next child */
};

static struct fipc_side_copy_shm state_numbered(uint64_t count) {
    return (struct fipc_side_copy_shm){FIPC_POS_FIRST + count * 24, count,
                                       count * UINT64_C(0x9e3779b97f4a7c15) | 1};
}

static bool belongs_together(const struct fipc_side_copy_shm *state) {
    struct fipc_side_copy_shm right = state_numbered(state->count);

    return state->pos == right.pos && state->ring == right.ring;
}

static void hammer_once(struct storm *storm, struct report *report, uint32_t me, uint64_t *seed) {
    struct fipc_side_shm *side = spare_side(storm->segment);
    struct fipc_side_copy_shm state = fipc_side_read(side);
    int rc;

    if (!belongs_together(&state))
        fipc_fetch_add_relaxed(&report->torn, 1);
    rc = lock_until(storm->segment, &side->lock, in_ms(PATIENCE_MS));
    if (rc < 0) {
        report->error = rc;
        _exit(1);
    }
    fipc_store_relaxed(storm->inside, me);
    fipc_fetch_add_relaxed(&report->taken_over, (uint64_t)rc);
    state = fipc_side_current(side);
    if (!belongs_together(&state))
        fipc_fetch_add_relaxed(&report->torn, 1);
    state = state_numbered(state.count + 1);
    for (uint64_t i = next_random(seed) % 64; i > 0; i--)
        fipc_pause();
    fipc_side_publish(side, &state);
    fipc_fetch_add_relaxed(&report->published, 1);
    if (fipc_load_relaxed(storm->inside) != me)
        fipc_fetch_add_relaxed(&report->torn, 1);
    fipc_lock_release(&side->lock);
    fipc_fetch_add_relaxed(&report->taken, 1);
}

static void hammer(void *argument) {
    struct storm *storm = argument;
    uint64_t seed = storm->number, count = 0;
    struct report *report = &storm->reports[storm->number % HAMMERS];

    if (fipc_segment_enter(storm->segment) != 1)
        _exit(2);
    for (;;) {
        hammer_once(storm, report, (uint32_t)storm->number, &seed);
        /* Also the ways through the futex: let others in between. */
        if (++count % 64 == 0)
            sched_yield();
    }
}

static uint64_t sum_taken(const struct storm *storm) {
    uint64_t sum = 0;

    for (int i = 0; i < HAMMERS; i++)
        sum += fipc_load_relaxed(&storm->reports[i].taken);
    return sum;
}

typedef pid_t (*start_child)(void (*)(void *), void *);

/* Waits until a survivor has had the lock; how long that took. */
static int64_t await_progress(const struct storm *storm, uint64_t taken, int64_t since_ns) {
    while (sum_taken(storm) == taken) {
        if (fipc_os_now_ns() - since_ns > PATIENCE_MS * FIPC_NS_PER_MS)
            CHECK_FAIL("nobody got the lock after a kill; its word is %#x",
                       spare_side(storm->segment)->lock);
        sleep_ms(1);
    }
    return fipc_os_now_ns() - since_ns;
}

/* Kills a child, every fourth after stopping it for a while. */
static void kill_hammer(pid_t pid, uint64_t *seed) {
    if (next_random(seed) % 4 == 0) {
        CHECK_OK(kill(pid, SIGSTOP));
        sleep_ms((int64_t)(next_random(seed) % 10));
    }
    kill_child(pid);
}

static void storm_of_kills(start_child const start[2], double share) {
    struct storm storm = {new_entered_segment(), NULL, NULL, 0};
    struct fipc_side_shm *side = spare_side(storm.segment);
    int64_t end_ns = fipc_os_now_ns() + fixture_ns(share), longest_ns = 0;
    uint64_t seed = (uint64_t)fipc_os_now_ns(), kills = 0, published = 0, taken_over = 0;
    struct fipc_side_copy_shm state = state_numbered(0);
    pid_t pids[HAMMERS];

    storm.reports = shared_memory(HAMMERS * sizeof(struct report) + 64);
    storm.inside = (uint32_t *)(storm.reports + HAMMERS);
    fipc_side_publish(side, &state);
    for (int i = 0; i < HAMMERS; i++) {
        pids[i] = start[i & 1](hammer, &storm);
        CHECK_OK(pids[i]);
        storm.number++;
    }
    while (kills < KILLS_AT_LEAST || fipc_os_now_ns() < end_ns) {
        int victim = (int)(next_random(&seed) % HAMMERS);
        int64_t killed_ns, stall_ns;
        uint64_t taken;

        sleep_ms((int64_t)(next_random(&seed) % 8));
        kill_hammer(pids[victim], &seed);
        kills++;
        killed_ns = fipc_os_now_ns();
        taken = sum_taken(&storm);
        stall_ns = await_progress(&storm, taken, killed_ns);
        longest_ns = stall_ns > longest_ns ? stall_ns : longest_ns;
        /* The next number that this child's report belongs to. */
        storm.number += (uint64_t)((victim - (int)(storm.number % HAMMERS) + HAMMERS) % HAMMERS);
        pids[victim] = start[victim & 1](hammer, &storm);
        CHECK_OK(pids[victim]);
        storm.number++;
    }
    for (int i = 0; i < HAMMERS; i++)
        kill_child(pids[i]);
    kills += HAMMERS;
    CHECK(lock_until(storm.segment, &side->lock, in_ms(PATIENCE_MS)) >= 0);
    state = fipc_side_current(side);
    fipc_lock_release(&side->lock);
    for (int i = 0; i < HAMMERS; i++) {
        CHECK_EQ(storm.reports[i].error, 0);
        CHECK_EQ(storm.reports[i].torn, 0);
        published += storm.reports[i].published;
        taken_over += storm.reports[i].taken_over;
    }
    CHECK(belongs_together(&state));
    /* Whoever was killed between publishing and saying so is one too few. */
    CHECK(state.count >= published && state.count <= published + kills);
    printf("    %llu kills, %llu take-overs, %llu states, longest stall %.1f ms\n",
           (unsigned long long)kills, (unsigned long long)taken_over,
           (unsigned long long)state.count, (double)longest_ns / 1e6);
    munmap(storm.reports, HAMMERS * sizeof(struct report) + 64);
    drop_segment(storm.segment);
}

static void kills_at_random_break_neither_the_lock_nor_the_state(void) {
    start_child const start[2] = {check_fork, check_fork};

    storm_of_kills(start, 0.8);
}

static void nothing(void *argument) { (void)argument; }

static void owners_in_different_pid_namespaces_are_told_apart(void) {
    start_child const start[2] = {check_fork, fork_into_pid_namespace};
    pid_t pid = fork_into_pid_namespace(nothing, NULL);

    if (pid == -EPERM || pid == -ENOSPC || pid == -EINVAL)
        CHECK_SKIP("this user may not make pid namespaces");
    CHECK_OK(pid);
    check_join(pid);
    storm_of_kills(start, 0.4);
}

int main(void) {
    CHECK_BEGIN();
    check_watchdog(fixture_watchdog_s());
    CHECK_RUN(a_lock_is_taken_once_and_free_again_afterwards);
    CHECK_RUN(a_lock_word_names_slot_and_generation);
    CHECK_RUN(unlocking_wakes_who_waits);
    CHECK_RUN(a_lock_word_that_names_no_slot_is_reported);
    CHECK_RUN(a_waiter_whose_descriptor_is_gone_says_so);
    CHECK_RUN(a_signal_handler_ends_the_wait);
    CHECK_RUN(the_lock_of_a_killed_owner_is_taken_over);
    CHECK_RUN(the_lock_of_an_owner_stopped_and_killed_is_taken_over);
    CHECK_RUN(a_lock_is_taken_over_from_one_who_died_taking_it_over);
    CHECK_RUN(a_timer_that_fires_every_millisecond_does_not_prevent_a_take_over);
    CHECK_RUN(kills_at_random_break_neither_the_lock_nor_the_state);
    CHECK_RUN(owners_in_different_pid_namespaces_are_told_apart);
    return CHECK_END();
}
