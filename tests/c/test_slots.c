/* test_slots.c - slots.h: who is attached to a segment, who of them is dead, and what
 * neither fork, close nor exec may change about that. What the dead had in hand is
 * test_arena.c's. */
#define _GNU_SOURCE
#include "slots.h"

#include "fixture.h"

struct slot_id {
    uint32_t slot, gen;
};

static struct slot_id id_of(const struct fipc_segment *segment) {
    return (struct slot_id){segment->slot, segment->slot_gen};
}

static int is_alive(const struct fipc_segment *segment, struct slot_id id) {
    return fipc_slots_is_alive(segment, id.slot, id.gen);
}

/* What a child tells its parent, and what it waits for. */
struct attached {
    struct fipc_segment *segment;
    struct slot_id *id; /* shared; what the child claimed */
    struct gate ready;
};

static struct attached new_attached(void) {
    struct attached attached = {new_segment(), shared_memory(sizeof(struct slot_id)), new_gate()};

    CHECK_EQ(fipc_segment_enter(attached.segment), 1);
    return attached;
}

static void drop_attached(struct attached *attached) {
    close_gate(&attached->ready);
    munmap(attached->id, sizeof(*attached->id));
    drop_segment(attached->segment);
}

static void claim_and_tell(struct attached *attached) {
    CHECK_EQ(fipc_segment_enter(attached->segment), 1);
    *attached->id = id_of(attached->segment);
    tell(&attached->ready);
}

static void claim_and_wait(void *argument) {
    claim_and_tell(argument);
    wait_to_be_killed();
}

/* ---- claiming ---- */

static void entering_claims_one_slot_for_good(void) {
    struct fipc_segment *segment = new_segment();

    CHECK_EQ(fipc_segment_enter(segment), 1);
    CHECK_EQ(segment->slot, 0);
    CHECK_EQ(segment->slot_gen, 1);
    CHECK_EQ(segment->owner, FIPC_OWNER(0, 1));
    CHECK_EQ(fipc_segment_enter(segment), 0);
    CHECK_EQ(is_alive(segment, id_of(segment)), 1);
    drop_segment(segment);
}

static void two_handles_of_one_process_have_a_slot_each(void) {
    struct fipc_segment *one = new_segment(), *two = attach_again(one);

    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(fipc_segment_enter(two), 1);
    CHECK(one->slot != two->slot);
    CHECK(one->lock_word != two->lock_word);
    CHECK_EQ(is_alive(one, id_of(two)), 1);
    CHECK_EQ(is_alive(two, id_of(one)), 1);
    drop_segment(two);
    drop_segment(one);
}

static void a_slot_given_back_is_dead_and_claimed_next_in_another_generation(void) {
    struct fipc_segment *one = new_segment(), *two = attach_again(one);
    struct slot_id id;

    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(fipc_segment_enter(two), 1);
    id = id_of(two);
    drop_segment(two);
    CHECK_EQ(is_alive(one, id), 0);
    CHECK_EQ(fipc_slots_reap(one), 0);
    two = attach_again(one);
    CHECK_EQ(fipc_segment_enter(two), 1);
    CHECK_EQ(two->slot, id.slot);
    CHECK_EQ(two->slot_gen, id.gen + 1);
    CHECK_EQ(is_alive(one, id), 0);
    CHECK_EQ(is_alive(one, id_of(two)), 1);
    drop_segment(two);
    drop_segment(one);
}

static void a_generation_that_overflows_skips_zero(void) {
    struct fipc_segment *one = new_segment();

    one->slots[0].gen = UINT32_MAX;
    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(one->slot_gen, 1);
    drop_segment(one);
}

static void a_slot_that_does_not_exist_is_neither_dead_nor_alive(void) {
    struct fipc_segment *one = new_segment();

    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(fipc_slots_is_alive(one, 1, 1), -EBADMSG);
    CHECK_EQ(fipc_slots_is_alive(one, FIPC_SLOT_COUNT, 1), -EBADMSG);
    one->header->slot_high = UINT32_MAX; /* damage */
    CHECK_EQ(fipc_slots_is_alive(one, FIPC_SLOT_COUNT, 1), -EBADMSG);
    CHECK_EQ(fipc_slots_reap(one), 0);
    one->header->slot_high = 1;
    drop_segment(one);
}

/* Holds the file locks of slots [first, first + count) with one stroke. */
static int hold_slots(const struct fipc_segment *segment, uint32_t first, uint32_t count) {
    int fd = fipc_os_reopen(segment->fd, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = FIPC_SLOT_LOCK_POS + first,
                         .l_len = count};

    CHECK_OK(fd);
    CHECK_OK(fcntl(fd, F_OFD_SETLK, &lock));
    return fd;
}

static void when_all_slots_are_taken_entering_says_so(void) {
    struct fipc_segment *segment = new_segment();
    int fd = hold_slots(segment, 0, FIPC_SLOT_COUNT);

    CHECK_EQ(fipc_segment_enter(segment), -EUSERS);
    CHECK_EQ(fipc_segment_enter(segment), -EUSERS);
    close(fd);
    CHECK_EQ(fipc_segment_enter(segment), 1);
    CHECK_EQ(segment->slot, 0);
    drop_segment(segment);
}

static void the_last_slot_is_as_good_as_any(void) {
    struct fipc_segment *one = new_segment(), *two = attach_again(one);
    int fd = hold_slots(one, 0, FIPC_SLOT_COUNT - 1);
    uint32_t *lock = &fipc_segment_channel(two, 1)->put.lock;
    struct slot_id id;

    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(one->slot, FIPC_SLOT_COUNT - 1);
    CHECK_EQ(FIPC_OWNER_SLOT(one->owner), FIPC_SLOT_COUNT - 1);
    CHECK_EQ(fipc_lock_try(one, lock), 0);
    close(fd);
    CHECK_EQ(fipc_segment_enter(two), 1);
    CHECK_EQ(fipc_slots_lock_owner_is_alive(two, *lock), 1);
    CHECK_EQ(fipc_lock_wait(two, lock, in_ms(20)), -ETIMEDOUT);
    id = id_of(one);
    drop_segment(one);
    CHECK_EQ(is_alive(two, id), 0);
    CHECK_EQ(fipc_lock_wait(two, lock, in_ms(PATIENCE_MS)), 1);
    fipc_lock_release(lock);
    drop_segment(two);
}

static void claim_and_go(void *segment) { CHECK_EQ(fipc_segment_enter(segment), 1); }

static void who_enters_first_reserves_the_first_ring(void) {
    struct fipc_segment *one = new_segment(), *two = attach_again(one);
    int64_t born_bytes = 2 * FIPC_PAGE, ring_bytes = 1 << FIPC_RING_FIRST_LOG2;

    CHECK_EQ(fipc_os_allocated_bytes(one->fd), born_bytes);
    CHECK(!fipc_segment_was_entered(one));
    check_in_child(claim_and_go, two);
    CHECK(fipc_segment_was_entered(one));
    CHECK_EQ(fipc_os_allocated_bytes(one->fd), born_bytes + ring_bytes);
    /* Only the first: the ring may have been given back since. */
    CHECK_EQ(fipc_os_punch(one->fd, FIPC_OFF_RINGS, (uint64_t)ring_bytes), 0);
    CHECK_EQ(fipc_segment_enter(one), 1);
    CHECK_EQ(fipc_os_allocated_bytes(one->fd), born_bytes);
    drop_segment(two);
    drop_segment(one);
}

static void a_descriptor_closed_or_reused_behind_our_back_is_noticed(void) {
    struct fipc_segment *one = new_segment(), *two = attach_again(one);
    int fd = two->fd;

    CHECK_EQ(fipc_segment_enter(one), 1);
    close(fd);
    CHECK_EQ(fipc_segment_enter(two), -EBADF);
    CHECK_EQ(memfd_create("another", MFD_CLOEXEC), fd);
    CHECK_EQ(fipc_segment_enter(two), -EBADF);
    drop_segment(two);
    CHECK_OK(fcntl(fd, F_GETFD)); /* was not ours to close */
    close(fd);
    drop_segment(one);
}

/* ---- deaths ---- */

static void the_slot_of_a_killed_process_reads_dead_and_can_be_reaped(void) {
    struct attached attached = new_attached();
    pid_t pid = check_fork(claim_and_wait, &attached);

    await(&attached.ready);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    CHECK_EQ(fipc_slots_reap(attached.segment), 0);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(fipc_slots_reap(attached.segment), 1);
    CHECK_EQ(fipc_slots_reap(attached.segment), 0);
    CHECK_EQ(attached.segment->slots[attached.id->slot].state, FIPC_SLOT_FREE);
    drop_attached(&attached);
}

static void a_stopped_process_is_alive(void) {
    struct attached attached = new_attached();
    pid_t pid = check_fork(claim_and_wait, &attached);
    int status;

    await(&attached.ready);
    CHECK_OK(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    CHECK_EQ(fipc_slots_reap(attached.segment), 0);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    drop_attached(&attached);
}

static void the_next_to_claim_takes_a_dead_slot_in_another_generation(void) {
    struct attached attached = new_attached();
    struct fipc_segment *again = attach_again(attached.segment);
    pid_t pid = check_fork(claim_and_wait, &attached);

    await(&attached.ready);
    kill_child(pid);
    CHECK_EQ(fipc_segment_enter(again), 1);
    CHECK_EQ(again->slot, attached.id->slot);
    CHECK_EQ(again->slot_gen, attached.id->gen + 1);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(is_alive(attached.segment, id_of(again)), 1);
    drop_segment(again);
    drop_attached(&attached);
}

static void a_dead_slot_that_another_is_sweeping_is_left_alone(void) {
    struct attached attached = new_attached();
    pid_t pid = check_fork(claim_and_wait, &attached);
    int fd;

    await(&attached.ready);
    kill_child(pid);
    fd = hold_slots(attached.segment, attached.id->slot, 1);
    CHECK_EQ(fipc_slots_reap(attached.segment), 0);
    close(fd);
    CHECK_EQ(fipc_slots_reap(attached.segment), 1);
    drop_attached(&attached);
}

/* The sweeper may be stopped, or dead itself: nobody waits for it. */
static void a_slot_reads_dead_while_it_is_swept(void) {
    struct attached attached = new_attached();
    pid_t pid = check_fork(claim_and_wait, &attached);
    struct fipc_slot_shm *shm;
    int fd;

    await(&attached.ready);
    kill_child(pid);
    shm = &attached.segment->slots[attached.id->slot];
    fd = hold_slots(attached.segment, attached.id->slot, 1);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1); /* as if just claimed */
    shm->state = FIPC_SLOT_DEAD;                           /* step sweep-mark */
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(fipc_slots_reap(attached.segment), 0);
    CHECK_EQ(shm->state, FIPC_SLOT_DEAD);
    close(fd);
    CHECK_EQ(fipc_slots_reap(attached.segment), 1);
    CHECK_EQ(shm->state, FIPC_SLOT_FREE);
    drop_attached(&attached);
}

/* ---- fork ---- */

static void a_forked_child_has_a_slot_of_its_own_and_its_death_is_not_its_parents(void) {
    struct attached attached = new_attached();
    struct slot_id parent = id_of(attached.segment);
    pid_t pid = check_fork(claim_and_wait, &attached);

    await(&attached.ready);
    CHECK(attached.id->slot != parent.slot);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, parent), 1);
    CHECK_EQ(fipc_segment_enter(attached.segment), 0);
    drop_attached(&attached);
}

static void fork_and_be_killed(void *argument) {
    struct attached *attached = argument;

    claim_and_tell(attached);
    /* The grandchild outlives us, with all that fork gave it. */
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        tell(&attached->ready);
        wait_to_be_killed();
    }
    wait_to_be_killed();
}

static void a_killed_process_is_dead_although_its_forked_child_lives_on(void) {
    struct attached attached = new_attached();
    pid_t pid, grandchild;

    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid = check_fork(fork_and_be_killed, &attached);
    await(&attached.ready);
    await(&attached.ready);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(fipc_slots_reap(attached.segment), 1);
    /* The grandchild is ours to reap now, and the only child there is. */
    {
        char path[64], line[32] = "";
        int fd;

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
        fd = open(path, O_RDONLY);
        CHECK_OK(fd);
        CHECK(read(fd, line, sizeof(line) - 1) > 0);
        close(fd);
        grandchild = (pid_t)atoi(line);
    }
    CHECK(grandchild > 1);
    kill_child(grandchild);
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 0));
    drop_attached(&attached);
}

static void a_child_cloned_without_fork_handlers_has_a_slot_of_its_own(void) {
    struct attached attached = new_attached();
    struct slot_id parent = id_of(attached.segment);
    pid_t pid;

    pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    CHECK_OK(pid);
    if (pid == 0) {
        claim_and_tell(&attached);
        wait_to_be_killed();
    }
    await(&attached.ready);
    CHECK(attached.id->slot != parent.slot);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(is_alive(attached.segment, parent), 1);
    drop_attached(&attached);
}

static void drop_in_child(void *argument) { drop_segment(argument); }

static void a_child_that_closes_its_copy_of_a_handle_leaves_the_parents_slot(void) {
    struct attached attached = new_attached();

    check_in_child(drop_in_child, attached.segment);
    CHECK_EQ(is_alive(attached.segment, id_of(attached.segment)), 1);
    CHECK_EQ(attached.segment->slots[attached.segment->slot].state, FIPC_SLOT_USED);
    drop_attached(&attached);
}

/* ---- threads ---- */

#define STARTERS 4

struct start {
    struct fipc_segment *segment;
    pthread_barrier_t barrier;
    int claims;
};

static void *enter_with_the_others(void *argument) {
    struct start *start = argument;
    int rc;

    pthread_barrier_wait(&start->barrier);
    rc = fipc_segment_enter(start->segment);
    CHECK(rc >= 0);
    __atomic_fetch_add(&start->claims, rc, __ATOMIC_SEQ_CST);
    return NULL;
}

/* The first operation of a process, by several threads at once. */
static void enter_from_threads(void *argument) {
    struct start start = {.segment = argument};
    pthread_t threads[STARTERS];

    CHECK_EQ(pthread_barrier_init(&start.barrier, NULL, STARTERS), 0);
    for (int i = 0; i < STARTERS; i++)
        threads[i] = check_thread(enter_with_the_others, &start);
    for (int i = 0; i < STARTERS; i++)
        check_thread_join(threads[i]);
    pthread_barrier_destroy(&start.barrier);
    CHECK_EQ(start.claims, 1);
    fipc_slots_release(start.segment);
}

static void threads_that_enter_at_once_after_a_fork_claim_one_slot(void) {
    struct fipc_segment *segment = new_segment();

    CHECK_EQ(fipc_segment_enter(segment), 1);
    for (int i = 0; i < FIXTURE_LESS(300, 60); i++)
        check_in_child(enter_from_threads, segment);
    CHECK_EQ(fipc_slots_reap(segment), 0);
    drop_segment(segment);
}

struct churn {
    struct fipc_segment *segment;
    uint32_t ended;
};

static void *attach_and_leave(void *argument) {
    struct churn *churn = argument;

    while (!fipc_load_acquire(TEST, &churn->ended)) {
        struct fipc_segment *again = attach_again(churn->segment);

        CHECK_EQ(fipc_segment_enter(again), 1);
        drop_segment(again);
    }
    return NULL;
}

static void wait_for_gate(void *argument) { await(argument); }

static void a_fork_in_the_middle_of_a_claim_does_not_keep_the_slot_alive(void) {
    struct churn churn = {new_segment(), 0};
    struct gate gate = new_gate();
    pid_t pids[40];
    pthread_t thread;

    CHECK_EQ(fipc_segment_enter(churn.segment), 1);
    thread = check_thread(attach_and_leave, &churn);
    for (int i = 0; i < 40; i++)
        pids[i] = check_fork(wait_for_gate, &gate);
    fipc_store_release(TEST, &churn.ended, 1);
    check_thread_join(thread);
    for (uint32_t slot = 0; slot < churn.segment->header->slot_high; slot++)
        if (slot != churn.segment->slot)
            CHECK_EQ(fipc_os_byte_is_locked(churn.segment->fd, FIPC_SLOT_LOCK_POS + slot), 0);
    for (int i = 0; i < 40; i++)
        tell(&gate);
    for (int i = 0; i < 40; i++)
        check_join(pids[i]);
    close_gate(&gate);
    drop_segment(churn.segment);
}

/* ---- close and exec ---- */

static void close_everything(void *argument) {
    struct attached *attached = argument;
    int ready = attached->ready.write_end;

    CHECK_EQ(fipc_segment_enter(attached->segment), 1);
    *attached->id = id_of(attached->segment);
    /* As a daemon does; only the gate is kept. */
    for (int fd = 3; fd < 1024; fd++)
        if (fd != ready)
            close(fd);
    tell(&attached->ready);
    wait_to_be_killed();
}

static void closing_all_descriptors_keeps_the_slot(void) {
    struct attached attached = new_attached();
    pid_t pid = check_fork(close_everything, &attached);

    await(&attached.ready);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    kill_child(pid);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    drop_attached(&attached);
}

static void claim_and_exec(void *argument) {
    struct attached *attached = argument;
    char number[16];

    CHECK_EQ(fipc_segment_enter(attached->segment), 1);
    *attached->id = id_of(attached->segment);
    tell(&attached->ready);
    await(&attached->ready); /* our own, so that the parent has seen us alive: see there */
    CHECK_OK(fcntl(attached->ready.write_end, F_SETFD, 0));
    snprintf(number, sizeof(number), "%d", attached->ready.write_end);
    execl("/proc/self/exe", "test_slots", "--tell", number, (char *)NULL);
    _exit(1);
}

static void a_process_that_executes_another_program_is_dead_here(void) {
    struct attached attached = new_attached();
    struct gate back = new_gate();
    struct attached in_child = attached;
    pid_t pid;

    in_child.ready = (struct gate){back.read_end, attached.ready.write_end};
    pid = check_fork(claim_and_exec, &in_child);
    await(&attached.ready);
    CHECK_EQ(is_alive(attached.segment, *attached.id), 1);
    tell(&back);
    await(&attached.ready); /* by the new program */
    CHECK_EQ(is_alive(attached.segment, *attached.id), 0);
    CHECK_EQ(fipc_slots_reap(attached.segment), 1);
    kill_child(pid);
    close_gate(&back);
    drop_attached(&attached);
}

/* Threads that enter at once in a process where nobody ever did. */
static void threads_that_enter_at_once_in_a_fresh_process_claim_one_slot(void) {
    for (int i = 0; i < FIXTURE_LESS(100, 20); i++) {
        pid_t pid = fork();

        CHECK_OK(pid);
        if (pid == 0) {
            execl("/proc/self/exe", "test_slots", "--start", (char *)NULL);
            _exit(1);
        }
        check_join(pid);
    }
}

int main(int argc, char **argv) {
    CHECK_BEGIN();
    if (argc == 3 && strcmp(argv[1], "--tell") == 0) {
        struct gate gate = {-1, atoi(argv[2])};

        tell(&gate);
        wait_to_be_killed();
    }
    if (argc == 2 && strcmp(argv[1], "--start") == 0) {
        struct fipc_segment *segment = new_segment();

        enter_from_threads(segment);
        drop_segment(segment);
        return 0;
    }
    CHECK_RUN(threads_that_enter_at_once_in_a_fresh_process_claim_one_slot);
    CHECK_RUN(entering_claims_one_slot_for_good);
    CHECK_RUN(two_handles_of_one_process_have_a_slot_each);
    CHECK_RUN(a_slot_given_back_is_dead_and_claimed_next_in_another_generation);
    CHECK_RUN(a_generation_that_overflows_skips_zero);
    CHECK_RUN(a_slot_that_does_not_exist_is_neither_dead_nor_alive);
    CHECK_RUN(when_all_slots_are_taken_entering_says_so);
    CHECK_RUN(the_last_slot_is_as_good_as_any);
    CHECK_RUN(who_enters_first_reserves_the_first_ring);
    CHECK_RUN(a_descriptor_closed_or_reused_behind_our_back_is_noticed);
    CHECK_RUN(the_slot_of_a_killed_process_reads_dead_and_can_be_reaped);
    CHECK_RUN(a_stopped_process_is_alive);
    CHECK_RUN(the_next_to_claim_takes_a_dead_slot_in_another_generation);
    CHECK_RUN(a_dead_slot_that_another_is_sweeping_is_left_alone);
    CHECK_RUN(a_slot_reads_dead_while_it_is_swept);
    CHECK_RUN(a_forked_child_has_a_slot_of_its_own_and_its_death_is_not_its_parents);
    CHECK_RUN(a_killed_process_is_dead_although_its_forked_child_lives_on);
    CHECK_RUN(a_child_cloned_without_fork_handlers_has_a_slot_of_its_own);
    CHECK_RUN(a_child_that_closes_its_copy_of_a_handle_leaves_the_parents_slot);
    CHECK_RUN(threads_that_enter_at_once_after_a_fork_claim_one_slot);
    CHECK_RUN(a_fork_in_the_middle_of_a_claim_does_not_keep_the_slot_alive);
    CHECK_RUN(closing_all_descriptors_keeps_the_slot);
    CHECK_RUN(a_process_that_executes_another_program_is_dead_here);
    return CHECK_END();
}
