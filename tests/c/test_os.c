/* test_os.c - os.h on this system: memory files, mappings, time, sleeping on a
 * word, file locks, fork tokens, pipes. The room for memory is test_os_room.c's. */
#define _GNU_SOURCE
#include "os.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "atomics.h"
#include "check.h"

#define MIB (UINT64_C(1) << 20)
#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))

static const char *limit;

static int new_file(uint64_t size) {
    int fd = fipc_os_memfd_create("fastipc:test", size);

    CHECK_OK(fd);
    return fd;
}

static void *new_mapping(int fd, uint64_t size) {
    void *address = NULL;

    CHECK_EQ(fipc_os_map(fd, 0, size, &address), 0);
    return address;
}

static int64_t in_ms(int64_t ms) { return fipc_os_now_ns() + ms * FIPC_NS_PER_MS; }

static void pause_forever(void) {
    for (;;)
        pause();
}

/* A pipe that two processes tell each other something by. */
struct signal_pipe {
    int read_end, write_end;
};

static struct signal_pipe new_signal_pipe(void) {
    int fds[2];

    CHECK_OK(pipe2(fds, O_CLOEXEC));
    return (struct signal_pipe){fds[0], fds[1]};
}

static void tell(struct signal_pipe *p) { CHECK_EQ(write(p->write_end, "x", 1), 1); }

static void await(struct signal_pipe *p) {
    char byte;

    CHECK_EQ(read(p->read_end, &byte, 1), 1);
}

static void await_end(struct signal_pipe *p) {
    char byte;

    CHECK_EQ(read(p->read_end, &byte, 1), 0);
}

static void close_pipe(struct signal_pipe *p) {
    close(p->read_end);
    close(p->write_end);
}

static void a_new_memory_file_has_its_length_and_is_sealed(void) {
    int fd = new_file(3 * PAGE);
    uint64_t inode, length;
    bool sealed;

    CHECK_EQ(fipc_os_memfd_stat(fd, &inode, &length, &sealed), 0);
    CHECK_EQ(length, 3 * PAGE);
    CHECK(sealed);
    CHECK(inode != 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 0);
    close(fd);
}

static void a_memory_file_grows_but_neither_shrinks_nor_takes_more_seals(void) {
    int fd = new_file(2 * PAGE);

    CHECK_EQ(ftruncate(fd, (off_t)PAGE), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_OK(ftruncate(fd, (off_t)(4 * PAGE)));
    close(fd);
}

static void a_memory_file_with_a_name_too_long_is_refused(void) {
    char name[300];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    CHECK_EQ(fipc_os_memfd_create(name, PAGE), -EINVAL);
}

static void stat_tells_memory_files_from_others(void) {
    int fds[2];
    uint64_t inode, length;
    bool sealed = true;

    CHECK_OK(pipe2(fds, O_CLOEXEC));
    CHECK_EQ(fipc_os_memfd_stat(fds[0], &inode, &length, &sealed), 0);
    CHECK(!sealed);
    close(fds[0]);
    close(fds[1]);
    CHECK_EQ(fipc_os_memfd_stat(fds[0], &inode, &length, &sealed), -EBADF);
}

static void a_reopened_memory_file_is_the_same_file_and_writable(void) {
    int fd = new_file(PAGE), again;
    uint64_t inode[2], length;
    bool sealed;
    uint32_t *one, *two;

    again = fipc_os_reopen(fd, O_RDWR);
    CHECK_OK(again);
    CHECK(fcntl(again, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fipc_os_memfd_stat(fd, &inode[0], &length, &sealed), 0);
    CHECK_EQ(fipc_os_memfd_stat(again, &inode[1], &length, &sealed), 0);
    CHECK_EQ(inode[0], inode[1]);
    CHECK(sealed);
    one = new_mapping(fd, PAGE);
    two = new_mapping(again, PAGE);
    CHECK(one != two);
    *one = 4711;
    CHECK_EQ(*two, 4711);
    fipc_os_unmap(one, PAGE);
    fipc_os_unmap(two, PAGE);
    close(fd);
    close(again);
}

static void reopening_a_closed_descriptor_fails_with_ebadf(void) {
    int fd = new_file(PAGE);

    close(fd);
    CHECK_EQ(fipc_os_reopen(fd, O_RDWR), -EBADF);
}

static void reopen_below_an_empty_root(void *directory) {
    int fd = new_file(PAGE);

    CHECK_OK(chroot(directory));
    CHECK_EQ(fipc_os_reopen(fd, O_RDWR), -ENOSYS);
    CHECK_EQ(fipc_os_doorbell(), -ENOSYS);
}

static void reopening_without_proc_fails_with_enosys(void) {
    char directory[] = "/tmp/fipc-test-root-XXXXXX";

    if (geteuid() != 0)
        CHECK_SKIP("chroot(2) needs root");
    CHECK(mkdtemp(directory) != NULL);
    check_in_child(reopen_below_an_empty_root, directory);
    CHECK_OK(rmdir(directory));
}

static void mapping_what_cannot_be_written_fails_with_eacces(void) {
    int fd = new_file(PAGE), readonly = fipc_os_reopen(fd, O_RDONLY);
    void *address = NULL;

    CHECK_OK(readonly);
    CHECK_EQ(fipc_os_map(readonly, 0, PAGE, &address), -EACCES);
    close(readonly);
    CHECK_EQ(fipc_os_map(readonly, 0, PAGE, &address), -EBADF);
    CHECK(address == NULL);
    close(fd);
}

#ifndef CHECK_SANITIZER
static void map_beyond_rlimit_as(void *unused) {
    struct rlimit few = {256 * MIB, 256 * MIB};
    int fd = new_file(PAGE);
    void *address;

    (void)unused;
    CHECK_OK(setrlimit(RLIMIT_AS, &few));
    CHECK_EQ(fipc_os_map(fd, 0, 1024 * MIB, &address), -ENOMEM);
}
#endif

static void mapping_beyond_rlimit_as_fails_with_enomem(void) {
#ifdef CHECK_SANITIZER
    CHECK_SKIP("sanitizers need more address space than any limit leaves");
#else
    check_in_child(map_beyond_rlimit_as, NULL);
#endif
}

/* Does the mapping at `address` have the flag ("dd", "dc") in smaps? */
static bool mapping_has_flag(const void *address, const char *flag) {
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false, found = false;

    CHECK(smaps != NULL);
    while (fgets(line, sizeof(line), smaps)) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    fclose(smaps);
    return found;
}

static void mappings_are_kept_out_of_core_dumps_and_pins_out_of_children(void) {
    int fd = new_file(PAGE);
    void *map = new_mapping(fd, PAGE), *pin;

    CHECK_EQ(fipc_os_pin(fd, false, &pin), 0);
    CHECK(mapping_has_flag(map, " dd"));
    CHECK(!mapping_has_flag(map, " dc"));
    CHECK(mapping_has_flag(pin, " dd"));
    CHECK(mapping_has_flag(pin, " dc"));
    fipc_os_unmap(map, PAGE);
    fipc_os_unmap(pin, PAGE);
    close(fd);
}

static void reserving_puts_memory_behind_the_range_and_lengthens_the_file(void) {
    int fd = new_file(PAGE);
    uint64_t inode, length;
    bool sealed;

    /* Not a multiple of a step, so that the last one is a short one. */
    CHECK_EQ(fipc_os_reserve(fd, PAGE, 9 * MIB, &limit), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 9 * MIB);
    CHECK_EQ(fipc_os_memfd_stat(fd, &inode, &length, &sealed), 0);
    CHECK_EQ(length, PAGE + 9 * MIB);
    CHECK_EQ(fipc_os_reserve(fd, PAGE, 9 * MIB, &limit), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 9 * MIB);
    CHECK_EQ(fipc_os_reserve(fd, 0, 0, &limit), 0);
    close(fd);
}

static void what_is_filled_in_can_be_peeked_at_and_has_memory(void) {
    static const char written[4096 + 8] = "first";
    int fd = new_file(8 * PAGE);
    char seen[8] = "";

    CHECK_EQ(fipc_os_fill(fd, 4 * PAGE, written, sizeof(written), &limit), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 2 * PAGE);
    CHECK_EQ(fipc_os_peek(fd, 4 * PAGE, seen, sizeof(seen)), 0);
    CHECK_STR(seen, "first");
    CHECK_EQ(fipc_os_peek(fd, 0, seen, sizeof(seen)), 0);
    CHECK_EQ(seen[0], 0);
    CHECK_EQ(fipc_os_peek(fd, 8 * PAGE - 4, seen, sizeof(seen)), -EIO);
    close(fd);
    CHECK_EQ(fipc_os_fill(fd, 0, written, 8, &limit), -EBADF);
    CHECK_EQ(fipc_os_peek(fd, 0, seen, 8), -EBADF);
}

static void punching_gives_memory_back_and_leaves_zeros(void) {
    int fd = new_file(4 * PAGE);
    unsigned char *bytes = new_mapping(fd, 4 * PAGE);

    memset(bytes, 0xff, 4 * PAGE);
    CHECK_EQ(fipc_os_punch(fd, PAGE, 2 * PAGE), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 2 * PAGE);
    CHECK_EQ(bytes[PAGE - 1], 0xff);
    CHECK_EQ(bytes[PAGE], 0);
    CHECK_EQ(bytes[3 * PAGE - 1], 0);
    CHECK_EQ(bytes[3 * PAGE], 0xff);
    CHECK_EQ(fipc_os_punch(fd, 0, 0), 0);
    fipc_os_unmap(bytes, 4 * PAGE);
    close(fd);
    CHECK_EQ(fipc_os_punch(fd, 0, PAGE), -EBADF);
    CHECK_EQ(fipc_os_allocated_bytes(fd), -EBADF);
}

static void reserving_in_a_closed_descriptor_fails_with_ebadf(void) {
    int fd = new_file(PAGE);

    close(fd);
    CHECK_EQ(fipc_os_reserve(fd, 0, PAGE, &limit), -EBADF);
}

static void reserving_past_the_largest_offset_fails_with_efbig(void) {
    int fd = new_file(PAGE);

    limit = NULL;
    CHECK_EQ(fipc_os_reserve(fd, UINT64_MAX - PAGE, 2 * PAGE, &limit), -EFBIG);
    CHECK(limit != NULL);
    limit = NULL;
    CHECK_EQ(fipc_os_reserve(fd, INT64_MAX - PAGE, 2 * PAGE, &limit), -EFBIG);
    CHECK(limit != NULL);
    CHECK_EQ(fipc_os_memfd_create("fastipc:test", UINT64_MAX), -EFBIG);
    close(fd);
}

static void reserving_more_than_the_machine_has_names_the_limit(void) {
    int fd = new_file(PAGE);

    limit = NULL;
    CHECK_EQ(fipc_os_reserve(fd, 0, UINT64_C(1) << 50, &limit), -ENOMEM);
    CHECK(limit != NULL && limit[0] != '\0');
    CHECK_EQ(fipc_os_allocated_bytes(fd), 0);
    close(fd);
}

static void reserve_past_rlimit_fsize(void *unused) {
    struct rlimit few = {4 * PAGE, RLIM_INFINITY};
    int long_before = new_file(16 * PAGE), fd = new_file(PAGE);

    (void)unused;
    signal(SIGXFSZ, SIG_DFL);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &few));
    limit = NULL;
    CHECK_EQ(fipc_os_reserve(fd, 0, 4 * PAGE, &limit), 0);
    CHECK(limit == NULL);
    CHECK_EQ(fipc_os_reserve(fd, 0, 5 * PAGE, &limit), -EFBIG);
    CHECK_STR(limit, "RLIMIT_FSIZE");
    CHECK_EQ(fipc_os_memfd_create("fastipc:test", 5 * PAGE), -EFBIG);
    /* What does not lengthen the file is no matter of this limit. */
    CHECK_EQ(fipc_os_reserve(long_before, 8 * PAGE, 8 * PAGE, &limit), 0);
}

static void a_file_size_limit_is_an_error_and_not_a_signal(void) {
    check_in_child(reserve_past_rlimit_fsize, NULL);
}

static void reserve_under_a_timer(void *unused) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec often = {{0, 200000}, {0, 200000}};
    int fd = new_file(PAGE);
    timer_t timer;

    (void)unused;
    check_handle_signal(SIGUSR1, 0);
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &often, NULL));
    CHECK_EQ(fipc_os_reserve(fd, 0, 64 * MIB, &limit), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 64 * MIB);
    CHECK(check_signals > 0);
}

static void reserving_ends_under_a_timer_faster_than_a_step(void) {
    check_in_child(reserve_under_a_timer, NULL);
}

static void clocks_are_monotonic_and_the_coarse_one_is_behind(void) {
    int64_t coarse = fipc_os_coarse_now_ns();
    int64_t fine = fipc_os_now_ns();

    CHECK(coarse > 0);
    CHECK(coarse <= fine);
    CHECK(fipc_os_now_ns() >= fine);
    CHECK(fipc_os_coarse_now_ns() >= coarse);
}

static void *count_cpus_of_a_pinned_thread(void *count) {
    cpu_set_t one;
    int cpu = sched_getcpu();

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_OK(sched_setaffinity(0, sizeof(one), &one));
    *(int *)count = fipc_os_cpu_count();
    return NULL;
}

static void the_cpu_count_is_that_of_the_threads_affinity(void) {
    cpu_set_t mine;
    int count = 0;

    CHECK_OK(sched_getaffinity(0, sizeof(mine), &mine));
    CHECK_EQ(fipc_os_cpu_count(), CPU_COUNT(&mine));
    check_thread_join(check_thread(count_cpus_of_a_pinned_thread, &count));
    CHECK_EQ(count, 1);
    CHECK_EQ(fipc_os_cpu_count(), CPU_COUNT(&mine));
}

static void waiting_returns_at_once_when_the_word_has_changed(void) {
    uint32_t word = 7;

    CHECK_EQ(fipc_os_wait_word(&word, 6, FIPC_FOREVER), 0);
}

static void waiting_ends_at_its_deadline_also_at_one_long_gone(void) {
    uint32_t word = 7;
    int64_t until_ns = in_ms(20);

    CHECK_EQ(fipc_os_wait_word(&word, 7, until_ns), -ETIMEDOUT);
    CHECK(fipc_os_now_ns() >= until_ns);
    CHECK_EQ(fipc_os_wait_word(&word, 7, 0), -ETIMEDOUT);
    CHECK_EQ(fipc_os_wait_word(&word, 7, INT64_MIN), -ETIMEDOUT);
}

struct interruption {
    pthread_t target;
    uint32_t done;
};

static void *interrupt_until_done(void *argument) {
    struct interruption *interruption = argument;

    /* Again and again, since one may come before the wait begins. */
    while (!fipc_load_relaxed(&interruption->done)) {
        pthread_kill(interruption->target, SIGUSR1);
        usleep(1000);
    }
    return NULL;
}

static void wait_interrupted(int flags) {
    struct interruption interruption = {pthread_self(), 0};
    uint32_t word = 7;
    pthread_t thread;
    int fds[2];

    check_handle_signal(SIGUSR1, flags);
    CHECK_EQ(fipc_os_pipe(fds), 0);
    thread = check_thread(interrupt_until_done, &interruption);
    CHECK_EQ(fipc_os_wait_word(&word, 7, FIPC_FOREVER), -EINTR);
    CHECK_EQ(fipc_os_wait_word(&word, 7, in_ms(60000)), -EINTR);
    CHECK_EQ(fipc_os_poll(fds[0], POLLIN, FIPC_FOREVER), -EINTR);
    CHECK_EQ(fipc_os_poll(fds[0], POLLIN, in_ms(60000)), -EINTR);
    fipc_store_relaxed(&interruption.done, 1);
    check_thread_join(thread);
    close(fds[0]);
    close(fds[1]);
}

static void a_signal_handler_ends_a_wait_with_eintr(void) { wait_interrupted(0); }

static void a_handler_that_restarts_system_calls_ends_a_wait_too(void) {
    wait_interrupted(SA_RESTART);
}

struct sleepers {
    int fd;
    struct signal_pipe ready;
};

static void sleep_in_another_process(void *argument) {
    struct sleepers *sleepers = argument;
    uint32_t *word = new_mapping(sleepers->fd, PAGE);

    tell(&sleepers->ready);
    while (fipc_load_acquire(TEST, word) == 0)
        CHECK_EQ(fipc_os_wait_word(word, 0, FIPC_FOREVER), 0);
}

static void a_wake_reaches_sleepers_in_other_processes(void) {
    struct sleepers sleepers = {new_file(PAGE), new_signal_pipe()};
    uint32_t *word = new_mapping(sleepers.fd, PAGE);
    pid_t pids[3];
    int woken = 0;

    CHECK_EQ(fipc_os_wake_word(word, 100), 0);
    for (int i = 0; i < 3; i++)
        pids[i] = check_fork(sleep_in_another_process, &sleepers);
    for (int i = 0; i < 3; i++)
        await(&sleepers.ready);
    /* The word still reads 0, so each woken one goes back to sleep: each that
     * this counts was asleep. */
    while (woken < 3) {
        int now = fipc_os_wake_word(word, 2);

        CHECK(now >= 0 && now <= 2);
        woken += now;
        sched_yield();
    }
    fipc_store_release(TEST, word, 1);
    CHECK(fipc_os_wake_word(word, 100) <= 3);
    for (int i = 0; i < 3; i++)
        check_join(pids[i]);
    fipc_os_unmap(word, PAGE);
    close(sleepers.fd);
    close_pipe(&sleepers.ready);
}

#define LOCK_POS ((INT64_C(1) << 60) + 17)

static void a_byte_is_locked_by_one_description_at_a_time(void) {
    int fd = new_file(PAGE), one = fipc_os_reopen(fd, O_RDWR), two = fipc_os_reopen(fd, O_RDWR);

    CHECK_OK(one);
    CHECK_OK(two);
    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS), 0);
    CHECK_EQ(fipc_os_lock_byte(one, LOCK_POS), 0);
    CHECK_EQ(fipc_os_lock_byte(one, LOCK_POS), 0);
    CHECK_EQ(fipc_os_lock_byte(two, LOCK_POS), -EAGAIN);
    CHECK_EQ(fipc_os_lock_byte(two, LOCK_POS + 1), 0);
    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS), 1);
    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS - 1), 0);
    CHECK_EQ(fipc_os_byte_is_locked(two, LOCK_POS), 1);
    /* One's own lock is no other's. */
    CHECK_EQ(fipc_os_byte_is_locked(one, LOCK_POS), 0);
    close(one);
    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS), 0);
    CHECK_EQ(fipc_os_lock_byte(one, LOCK_POS), -EBADF);
    CHECK_EQ(fipc_os_byte_is_locked(one, LOCK_POS), -EBADF);
    close(two);
    close(fd);
}

/* Locks the byte through a description of its own that only a pin keeps. */
static void *lock_and_pin(int fd) {
    int own = fipc_os_reopen(fd, O_RDWR);
    void *pin;

    CHECK_OK(own);
    CHECK_EQ(fipc_os_lock_byte(own, LOCK_POS), 0);
    CHECK_EQ(fipc_os_pin(own, false, &pin), 0);
    close(own);
    return pin;
}

static void a_pin_keeps_the_lock_after_close_until_it_is_unmapped(void) {
    int fd = new_file(PAGE);
    void *pin = lock_and_pin(fd);

    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS), 1);
    fipc_os_unmap(pin, PAGE);
    CHECK_EQ(fipc_os_byte_is_locked(fd, LOCK_POS), 0);
    close(fd);
    CHECK_EQ(fipc_os_pin(fd, false, &pin), -EBADF);
}

struct owner {
    int fd;
    struct signal_pipe ready, hold;
    bool with_child;
};

static void own_until_killed(void *argument) {
    struct owner *owner = argument;

    (void)lock_and_pin(owner->fd);
    if (owner->with_child) {
        pid_t child = fork(); /* not check_fork(): it shall outlive this process */

        CHECK_OK(child);
        if (child == 0) {
            alarm(CHECK_WATCHDOG_S);
            close(owner->hold.write_end);
            tell(&owner->ready);
            await_end(&owner->hold);
            _exit(0);
        }
    } else {
        tell(&owner->ready);
    }
    pause_forever();
}

static void kill_an_owner(bool with_child) {
    struct owner owner = {new_file(PAGE), new_signal_pipe(), new_signal_pipe(), with_child};
    pid_t pid = check_fork(own_until_killed, &owner);

    await(&owner.ready);
    close(owner.ready.write_end);
    CHECK_EQ(fipc_os_byte_is_locked(owner.fd, LOCK_POS), 1);
    CHECK_OK(kill(pid, SIGKILL));
    check_join_signal(pid, SIGKILL);
    CHECK_EQ(fipc_os_byte_is_locked(owner.fd, LOCK_POS), 0);
    /* Let the child go, and wait until it has gone. */
    close(owner.hold.write_end);
    await_end(&owner.ready);
    close(owner.ready.read_end);
    close(owner.hold.read_end);
    close(owner.fd);
}

static void a_killed_owner_loses_its_lock(void) { kill_an_owner(false); }

static void a_killed_owner_loses_its_lock_although_its_child_lives(void) { kill_an_owner(true); }

static void own_and_exec(void *argument) {
    struct owner *owner = argument;

    (void)lock_and_pin(owner->fd);
    tell(&owner->ready);
    CHECK_OK(dup2(owner->hold.read_end, 0));
    CHECK_OK(dup2(owner->ready.write_end, 1));
    execlp("cat", "cat", (char *)NULL);
    CHECK_FAIL("exec: %s", strerror(errno));
}

static void exec_drops_the_lock(void) {
    struct owner owner = {new_file(PAGE), new_signal_pipe(), new_signal_pipe(), false};
    pid_t pid = check_fork(own_and_exec, &owner);

    await(&owner.ready);
    /* What cat repeats shows that it is cat now. */
    tell(&owner.hold);
    await(&owner.ready);
    CHECK_EQ(fipc_os_byte_is_locked(owner.fd, LOCK_POS), 0);
    close(owner.hold.write_end);
    check_join(pid);
    close_pipe(&owner.ready);
    close(owner.hold.read_end);
    close(owner.fd);
}

static void find_the_token_wiped(void *token) {
    CHECK(fipc_os_fork_token() == token);
    CHECK_EQ(*(uint64_t *)token, 0);
    *(uint64_t *)token = 2;
}

static void the_fork_token_reads_0_in_a_child_and_keeps_its_value_in_the_parent(void) {
    uint64_t *token = fipc_os_fork_token();

    CHECK(token != NULL);
    *token = 1;
    check_in_child(find_the_token_wiped, token);
    CHECK_EQ(*token, 1);
    CHECK(fipc_os_fork_token() == token);
}

static void the_fork_token_reads_0_also_where_no_fork_handler_runs(void) {
    uint64_t *token = fipc_os_fork_token();
    long pid;

    *token = 1;
    /* The system call itself, behind the C library's back. */
    pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK_OK(pid);
    if (pid == 0)
        _exit(*token == 0 ? 0 : 1);
    check_join((pid_t)pid);
    CHECK_EQ(*token, 1);
}

static void *fetch_the_token(void *barrier) {
    pthread_barrier_wait(barrier);
    return fipc_os_fork_token();
}

static void fetch_the_token_in_threads(void *unused) {
    pthread_barrier_t barrier;
    pthread_t threads[8];
    void *token[8];

    (void)unused;
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, 8), 0);
    for (int i = 0; i < 8; i++)
        threads[i] = check_thread(fetch_the_token, &barrier);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(pthread_join(threads[i], &token[i]), 0);
    CHECK(token[0] != NULL);
    for (int i = 1; i < 8; i++)
        CHECK(token[i] == token[0]);
    pthread_barrier_destroy(&barrier);
}

static void threads_that_come_first_together_get_one_token(void) {
    check_in_child(fetch_the_token_in_threads, NULL);
}

static void a_pipe_is_small_does_not_block_and_closes_on_exec(void) {
    int fds[2];

    CHECK_EQ(fipc_os_pipe(fds), 0);
    CHECK_EQ(fcntl(fds[0], F_GETPIPE_SZ), PAGE);
    for (int i = 0; i < 2; i++) {
        CHECK(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    }
    CHECK_EQ(fipc_os_drain(fds[0]), 0);
    CHECK_EQ(fipc_os_ring(fds[1]), 0);
    CHECK_EQ(fipc_os_drain(fds[0]), 1);
    CHECK_EQ(fipc_os_drain(fds[0]), 0);
    close(fds[0]);
    close(fds[1]);
}

static void ringing_a_full_pipe_is_no_error_and_draining_empties_it(void) {
    int fds[2];

    CHECK_EQ(fipc_os_pipe(fds), 0);
    for (uint64_t i = 0; i < PAGE + 10; i++)
        CHECK_EQ(fipc_os_ring(fds[1]), 0);
    while (fipc_os_poll(fds[0], POLLIN, 0) != 0)
        CHECK_EQ(fipc_os_drain(fds[0]), 1);
    CHECK_EQ(fipc_os_drain(fds[0]), 0);
    close(fds[0]);
    close(fds[1]);
}

static void draining_takes_what_is_left_before_it_finds_the_end(void) {
    int fds[2];

    CHECK_EQ(fipc_os_pipe(fds), 0);
    CHECK_EQ(fipc_os_ring(fds[1]), 0);
    close(fds[1]);
    CHECK_EQ(fipc_os_drain(fds[0]), 1);
    CHECK_EQ(fipc_os_drain(fds[0]), -EPIPE);
    CHECK(fipc_os_poll(fds[0], POLLIN, 0) & POLLHUP);
    close(fds[0]);
    CHECK_EQ(fipc_os_drain(fds[0]), -EBADF);
    CHECK_EQ(fipc_os_ring(fds[1]), -EBADF);
}

static void ring_without_a_reader(void *disposition) {
    int fds[2];
    sigset_t pending;

    signal(SIGPIPE, *(__sighandler_t *)disposition);
    check_signals = 0;
    CHECK_EQ(fipc_os_pipe(fds), 0);
    close(fds[0]);
    CHECK_EQ(fipc_os_ring(fds[1]), -EPIPE);
    CHECK(fipc_os_poll(fds[1], POLLOUT, 0) & POLLERR);
    CHECK_EQ(check_signals, 0);
    CHECK_OK(sigpending(&pending));
    CHECK_EQ(sigismember(&pending, SIGPIPE), 0);
}

static void ringing_without_a_reader_is_epipe_and_never_sigpipe(void) {
    __sighandler_t dispositions[] = {SIG_DFL, SIG_IGN, check_count_signal};

    for (size_t i = 0; i < 3; i++)
        check_in_child(ring_without_a_reader, &dispositions[i]);
}

static void ring_with_sigpipe_pending(void *unused) {
    sigset_t pipe_set, now;
    int fds[2];

    (void)unused;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    signal(SIGPIPE, SIG_DFL);
    CHECK_OK(sigprocmask(SIG_BLOCK, &pipe_set, NULL));
    raise(SIGPIPE);
    CHECK_EQ(fipc_os_pipe(fds), 0);
    close(fds[0]);
    CHECK_EQ(fipc_os_ring(fds[1]), -EPIPE);
    CHECK_OK(sigpending(&now));
    CHECK_EQ(sigismember(&now, SIGPIPE), 1);
    CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK_EQ(sigismember(&now, SIGPIPE), 1);
}

static void ringing_leaves_the_programs_own_pending_sigpipe_alone(void) {
    check_in_child(ring_with_sigpipe_pending, NULL);
}

static void one_descriptor_rings_drains_and_polls_a_doorbell(void) {
    int fd = fipc_os_doorbell();

    CHECK_OK(fd);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETPIPE_SZ), PAGE);
    /* Its own writer: it never ends. */
    CHECK_EQ(fipc_os_drain(fd), 0);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, 0), 0);
    CHECK_EQ(fipc_os_ring(fd), 0);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, FIPC_FOREVER), POLLIN);
    CHECK_EQ(fipc_os_drain(fd), 1);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, 0), 0);
    close(fd);
}

static void polling_ends_at_its_deadline_and_names_a_closed_descriptor(void) {
    int fd = fipc_os_doorbell();
    int64_t until_ns = in_ms(20);

    CHECK_OK(fd);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, until_ns), 0);
    CHECK(fipc_os_now_ns() >= until_ns);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, INT64_MIN), 0);
    close(fd);
    CHECK_EQ(fipc_os_poll(fd, POLLIN, FIPC_FOREVER), -EBADF);
}

static void random_bytes_differ(void) {
    unsigned char one[512] = {0}, two[512] = {0};

    CHECK_EQ(fipc_os_random(one, sizeof(one)), 0);
    CHECK_EQ(fipc_os_random(two, sizeof(two)), 0);
    CHECK(memcmp(one, two, sizeof(one)) != 0);
    CHECK(memcmp(one, one + 256, 256) != 0);
    CHECK_EQ(fipc_os_random(one, 0), 0);
}

static int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

int main(void) {
    int before;

    CHECK_BEGIN();
    before = open_descriptors();
    CHECK_RUN(a_new_memory_file_has_its_length_and_is_sealed);
    CHECK_RUN(a_memory_file_grows_but_neither_shrinks_nor_takes_more_seals);
    CHECK_RUN(a_memory_file_with_a_name_too_long_is_refused);
    CHECK_RUN(stat_tells_memory_files_from_others);
    CHECK_RUN(a_reopened_memory_file_is_the_same_file_and_writable);
    CHECK_RUN(reopening_a_closed_descriptor_fails_with_ebadf);
    CHECK_RUN(reopening_without_proc_fails_with_enosys);
    CHECK_RUN(mapping_what_cannot_be_written_fails_with_eacces);
    CHECK_RUN(mapping_beyond_rlimit_as_fails_with_enomem);
    CHECK_RUN(mappings_are_kept_out_of_core_dumps_and_pins_out_of_children);
    CHECK_RUN(reserving_puts_memory_behind_the_range_and_lengthens_the_file);
    CHECK_RUN(what_is_filled_in_can_be_peeked_at_and_has_memory);
    CHECK_RUN(punching_gives_memory_back_and_leaves_zeros);
    CHECK_RUN(reserving_in_a_closed_descriptor_fails_with_ebadf);
    CHECK_RUN(reserving_past_the_largest_offset_fails_with_efbig);
    CHECK_RUN(reserving_more_than_the_machine_has_names_the_limit);
    CHECK_RUN(a_file_size_limit_is_an_error_and_not_a_signal);
    CHECK_RUN(reserving_ends_under_a_timer_faster_than_a_step);
    CHECK_RUN(clocks_are_monotonic_and_the_coarse_one_is_behind);
    CHECK_RUN(the_cpu_count_is_that_of_the_threads_affinity);
    CHECK_RUN(waiting_returns_at_once_when_the_word_has_changed);
    CHECK_RUN(waiting_ends_at_its_deadline_also_at_one_long_gone);
    CHECK_RUN(a_signal_handler_ends_a_wait_with_eintr);
    CHECK_RUN(a_handler_that_restarts_system_calls_ends_a_wait_too);
    CHECK_RUN(a_wake_reaches_sleepers_in_other_processes);
    CHECK_RUN(a_byte_is_locked_by_one_description_at_a_time);
    CHECK_RUN(a_pin_keeps_the_lock_after_close_until_it_is_unmapped);
    CHECK_RUN(a_killed_owner_loses_its_lock);
    CHECK_RUN(a_killed_owner_loses_its_lock_although_its_child_lives);
    CHECK_RUN(exec_drops_the_lock);
    CHECK_RUN(threads_that_come_first_together_get_one_token);
    CHECK_RUN(the_fork_token_reads_0_in_a_child_and_keeps_its_value_in_the_parent);
    CHECK_RUN(the_fork_token_reads_0_also_where_no_fork_handler_runs);
    CHECK_RUN(a_pipe_is_small_does_not_block_and_closes_on_exec);
    CHECK_RUN(ringing_a_full_pipe_is_no_error_and_draining_empties_it);
    CHECK_RUN(draining_takes_what_is_left_before_it_finds_the_end);
    CHECK_RUN(ringing_without_a_reader_is_epipe_and_never_sigpipe);
    CHECK_RUN(ringing_leaves_the_programs_own_pending_sigpipe_alone);
    CHECK_RUN(one_descriptor_rings_drains_and_polls_a_doorbell);
    CHECK_RUN(polling_ends_at_its_deadline_and_names_a_closed_descriptor);
    CHECK_RUN(random_bytes_differ);
    check_case = "(after the last test)";
    CHECK_EQ(open_descriptors(), before);
    return CHECK_END();
}
