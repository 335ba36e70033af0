/* os_linux.c - os.h on Linux: memory files, mappings, time, futexes, file locks,
 * pipes. Holds no policy: when to grow, spin or give up is decided above. How
 * much memory is left is os_room.c's. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "os_room.h"

/* Headers older than the kernel that they run on lack these. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define NS_PER_S INT64_C(1000000000)

/* One fallocate(2) takes at most so much: at 0.3 to 1 GB/s some 4 to 14 ms, the
 * longest that a signal or a kill has to wait. Near a limit it takes less and
 * looks between, since other processes look and take at the same time. */
#define RESERVE_STEP_MAX (UINT64_C(4) << 20)
#define RESERVE_STEP_MIN (UINT64_C(256) << 10)
#define RESERVE_PART (FIPC_ROOM_AMPLE / RESERVE_STEP_MAX)
#define RESERVE_INTERRUPTS_MAX 1000

#define CPU_COUNT_KEPT_NS (100 * FIPC_NS_PER_MS)

/* futex(2) takes the C library's timespec only where both have 64 bits. */
_Static_assert(sizeof(((struct timespec *)0)->tv_sec) == 8 && sizeof(long) == 8,
               "only 64-bit systems are supported");

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static struct timespec timespec_of_ns(int64_t ns) {
    struct timespec t = {0, 0};

    if (ns > 0) {
        t.tv_sec = (time_t)(ns / NS_PER_S);
        t.tv_nsec = (long)(ns % NS_PER_S);
    }
    return t;
}

int64_t fipc_os_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

int64_t fipc_os_coarse_now_ns(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }

void fipc_os_yield(void) { (void)sched_yield(); }

void fipc_os_sleep_some(int64_t ns) {
    struct timespec t = timespec_of_ns(ns);

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

int fipc_os_cpu_count(void) {
    /* Affinity belongs to a thread, and so does what is remembered of it. */
    static _Thread_local int64_t asked_ns;
    static _Thread_local int count;
    unsigned long mask[8192 / (8 * sizeof(unsigned long))];
    int64_t now_ns = fipc_os_coarse_now_ns();
    long bytes;

    if (count > 0 && now_ns - asked_ns < CPU_COUNT_KEPT_NS)
        return count;
    /* The system call: it says how much of the mask it filled, and glibc's
     * wrapper needs to be told the number of CPUs in advance. */
    bytes = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);
    if (bytes > 0) {
        count = 0;
        for (size_t i = 0; i < (size_t)bytes / sizeof(mask[0]); i++)
            count += __builtin_popcountl(mask[i]);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN);

        count = online > 0 && online < INT_MAX ? (int)online : 1;
    }
    if (count < 1)
        count = 1;
    asked_ns = now_ns;
    return count;
}

/* Would a file of `end` bytes pass RLIMIT_FSIZE? Asked before the kernel is,
 * because it answers with SIGXFSZ, whose default action ends the process. */
static bool passes_file_limit(uint64_t end) {
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end > limit.rlim_cur;
}

int fipc_os_memfd_create(const char *name, uint64_t size_bytes) {
    int fd, rc;

    if (size_bytes > INT64_MAX || passes_file_limit(size_bytes))
        return -EFBIG;
    /* Without the executable bit: a system may refuse the others
     * (vm.memfd_noexec = 2); kernels before 6.3 do not know the flag. */
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size_bytes) < 0 ||
        /* Against shrinking, since a peer's mapping would end in SIGBUS; against
         * more seals, since one against writing would stop every peer. */
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        rc = -errno;
        goto err_close;
    }
    return fd;
err_close:
    close(fd);
    return rc;
}

int fipc_os_inode(int fd, uint64_t *inode) {
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    *inode = (uint64_t)st.st_ino;
    return 0;
}

int fipc_os_memfd_stat(int fd, uint64_t *inode, uint64_t *length, bool *sealed) {
    struct stat st;
    int seals;

    if (fstat(fd, &st) < 0)
        return -errno;
    seals = fcntl(fd, F_GET_SEALS);
    *inode = (uint64_t)st.st_ino;
    *length = st.st_size > 0 ? (uint64_t)st.st_size : 0;
    *sealed = seals >= 0 && (seals & F_SEAL_SHRINK);
    return 0;
}

int fipc_os_map(int fd, uint64_t offset, uint64_t size, void **address) {
    void *mapped;

    if (size > SIZE_MAX || offset > INT64_MAX)
        return -ENOMEM;
    mapped = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (mapped == MAP_FAILED)
        return -errno;
    /* A core dump reads every page of a mapping, and reading a hole of a memory
     * file allocates it. A kernel that refuses costs only that. */
    (void)madvise(mapped, (size_t)size, MADV_DONTDUMP);
    *address = mapped;
    return 0;
}

void fipc_os_unmap(void *address, uint64_t size) {
    int saved = errno;

    (void)munmap(address, (size_t)size);
    errno = saved;
}

/* One fallocate(2), with signals blocked or not. */
static int reserve_step(int fd, uint64_t offset, uint64_t size, bool blocked) {
    sigset_t all, before;
    int rc;

    if (blocked) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    rc = fallocate(fd, 0, (off_t)offset, (off_t)size) < 0 ? -errno : 0;
    if (blocked)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* ENOSPC: a memory file is not on a mounted file system with a size, so it is
 * nearly always the strict accounting that refuses. */
static const char *nospace_limit(void) {
    char mode = 0;
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, &mode, 1) != 1)
            mode = 0;
        close(fd);
    }
    return mode == '2' ? "the kernel's commit limit (vm.overcommit_memory=2)"
                       : "the memory file system's size";
}

/* Memory was refused with `error`: names the limit, and returns -error. */
static int refused(int error, const char **limit) {
    if (error == ENOSPC)
        *limit = nospace_limit();
    else if (error == ENOMEM)
        *limit = "kernel memory";
    else if (error == EFBIG)
        *limit = "RLIMIT_FSIZE";
    return -error;
}

int fipc_os_reserve(int fd, uint64_t offset, uint64_t size, const char **limit) {
    uint64_t end = offset + size;
    int interrupts = 0;

    if (size == 0)
        return 0;
    if (end < offset || end > INT64_MAX) {
        *limit = "the largest file possible";
        return -EFBIG;
    }
    if (passes_file_limit(end)) {
        struct stat st;

        /* What lies within the file already does not lengthen it. */
        if (fstat(fd, &st) < 0)
            return -errno;
        if (end > (uint64_t)st.st_size) {
            *limit = "RLIMIT_FSIZE";
            return -EFBIG;
        }
    }
    while (offset < end) {
        uint64_t left = end - offset, spare, step;
        int rc;

        /* For all that is left, before each step: a refusal should come before
         * work, and others use memory meanwhile. */
        rc = fipc_os_room_spare(left, &spare, limit);
        if (rc < 0)
            return rc;
        step = (spare + left) / RESERVE_PART & ~(RESERVE_STEP_MIN - 1);
        if (step < RESERVE_STEP_MIN)
            step = RESERVE_STEP_MIN;
        else if (step > RESERVE_STEP_MAX)
            step = RESERVE_STEP_MAX;
        if (step > left)
            step = left;
        rc = reserve_step(fd, offset, step, interrupts > 0);
        switch (rc) {
        case 0:
            offset += step;
            break;
        case -EINTR:
            /* Not every kernel does this: it undid the step. A timer that fires
             * faster than a step ends would have it undone for ever, hence the
             * blocked signals. */
            if (++interrupts > RESERVE_INTERRUPTS_MAX)
                return -EINTR;
            break;
        default:
            return refused(-rc, limit);
        }
    }
    return 0;
}

int fipc_os_fill(int fd, uint64_t offset, const void *data, uint64_t size, const char **limit) {
    const char *at = data;
    uint64_t spare;
    int rc = fipc_os_room_spare(size, &spare, limit);

    if (rc < 0)
        return rc;
    while (size > 0) {
        ssize_t written = pwrite(fd, at, (size_t)size, (off_t)offset);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return refused(errno, limit);
        at += written;
        offset += (uint64_t)written;
        size -= (uint64_t)written;
    }
    return 0;
}

int fipc_os_peek(int fd, uint64_t offset, void *data, uint64_t size) {
    ssize_t got;

    do {
        got = pread(fd, data, (size_t)size, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    return (uint64_t)got == size ? 0 : -EIO;
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void fipc_os_huge(void *data, uint64_t bytes) {
    uint64_t page, head;

    if (fipc_likely(bytes < FIPC_HUGE_BYTES))
        return;
    page = page_size();
    head = -(uintptr_t)data & (page - 1);
    (void)madvise((uint8_t *)data + head, (size_t)((bytes - head) & ~(page - 1)), MADV_HUGEPAGE);
}

int fipc_os_punch(int fd, uint64_t offset, uint64_t size) {
    int rc;

    if (size == 0)
        return 0;
    if (offset > INT64_MAX || size > INT64_MAX)
        return -EINVAL;
    do {
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

int64_t fipc_os_allocated_bytes(int fd) {
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    return (int64_t)st.st_blocks * 512;
}

int fipc_os_wait_word(const uint32_t *word, uint32_t expected, int64_t until_ns) {
    /* Always with a timeout, for FIPC_FOREVER one in 292 years: without one the
     * kernel restarts the wait behind a handler installed with SA_RESTART, and
     * the caller would never learn that it ran. */
    struct timespec until = timespec_of_ns(until_ns);

    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &until, NULL,
                FUTEX_BITSET_MATCH_ANY) == 0 ||
        errno == EAGAIN)
        return 0;
    return -errno;
}

int fipc_os_wake_word(const uint32_t *word, int count) {
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);

    return woken < 0 ? -errno : (int)woken;
}

int fipc_os_reopen(int fd, int open_flags) {
    char path[32];
    int opened, rc;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    do {
        opened = open(path, open_flags | O_CLOEXEC);
    } while (opened < 0 && errno == EINTR);
    if (opened >= 0)
        return opened;
    rc = -errno;
    if (rc == -ENOENT) {
        /* Three things look alike: no such descriptor, no /proc, no luck. */
        if (fcntl(fd, F_GETFD) < 0)
            rc = -EBADF;
        else if (access("/proc/self/fd", F_OK) < 0)
            rc = -ENOSYS;
    }
    return rc;
}

static struct flock one_byte(int64_t pos) {
    struct flock lock;

    /* l_pid must be 0 for locks of open file descriptions. */
    memset(&lock, 0, sizeof(lock));
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)pos;
    lock.l_len = 1;
    return lock;
}

int fipc_os_lock_byte(int fd, int64_t pos) {
    struct flock lock = one_byte(pos);

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int fipc_os_byte_is_locked(int fd, int64_t pos) {
    struct flock lock = one_byte(pos);

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

uint64_t fipc_os_memory_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES);

    return (pages > 0 ? (uint64_t)pages : 1) * page_size();
}

int fipc_os_pin(int fd, bool inherited, void **address) {
    size_t size = page_size();
    void *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int rc;

    if (mapped == MAP_FAILED)
        return -errno;
    /* Not optional: a child that inherited the mapping would keep the lock when
     * its owner is killed. */
    if (!inherited && madvise(mapped, size, MADV_DONTFORK) < 0) {
        rc = -errno;
        goto err_unmap;
    }
    (void)madvise(mapped, size, MADV_DONTDUMP);
    *address = mapped;
    return 0;
err_unmap:
    munmap(mapped, size);
    return rc;
}

uint32_t fipc_os_pid(void) { return (uint32_t)getpid(); }

uint64_t *fipc_os_fork_token(void) {
    static uint64_t token; /* the page's address, or 0 */
    uint64_t found = fipc_load_acquire(I2, &token);
    void *mapped;

    if (fipc_likely(found != 0))
        return (uint64_t *)(uintptr_t)found;
    mapped = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    if (madvise(mapped, page_size(), MADV_WIPEONFORK) < 0) {
        munmap(mapped, page_size());
        return NULL;
    }
    /* I1, pairs with I2 above: the page is wiped on fork before anybody
     * finds it. Of threads that come together the first one's page counts. */
    if (!fipc_cas64_seqcst(I1, &token, 0, (uint64_t)(uintptr_t)mapped)) {
        munmap(mapped, page_size());
        mapped = (void *)(uintptr_t)fipc_load_acquire(I2, &token);
    }
    return mapped;
}

int fipc_os_pipe(int fds[2]) {
    int made[2];

    if (pipe2(made, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    /* It holds single bytes; 16 pages would count against the user's share of
     * pipe memory (fs.pipe-user-pages-soft). Refused, it is just larger. */
    (void)fcntl(made[1], F_SETPIPE_SZ, (int)page_size());
    fds[0] = made[0];
    fds[1] = made[1];
    return 0;
}

int fipc_os_doorbell(void) {
    int fds[2], fd;
    int rc = fipc_os_pipe(fds);

    if (rc < 0)
        return rc;
    fd = fipc_os_reopen(fds[0], O_RDWR | O_NONBLOCK);
    close(fds[0]);
    close(fds[1]);
    return fd;
}

/* Writes one byte with SIGPIPE blocked, and takes back the one it may cause. */
static ssize_t write_without_sigpipe(int fd, const char *byte) {
    sigset_t pipe_set, before, pending;
    struct timespec at_once = {0, 0};
    bool was_pending;
    ssize_t written;
    int saved;

    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
    was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    written = write(fd, byte, 1);
    saved = errno;
    if (written < 0 && saved == EPIPE && !was_pending) {
        while (sigtimedwait(&pipe_set, NULL, &at_once) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return written;
}

int fipc_os_ring(int fd) {
    static const char byte = 1;
    struct sigaction action;
    ssize_t written;

    do {
        /* Python ignores SIGPIPE, and then one question is all it costs. A
         * program that does not must not die of a reader's death either. */
        if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            written = write(fd, &byte, 1);
        else
            written = write_without_sigpipe(fd, &byte);
    } while (written < 0 && errno == EINTR);
    /* Full is as good as rung: its reader has something to read. */
    return written < 0 && errno != EAGAIN ? -errno : 0;
}

int fipc_os_drain(int fd) {
    char bytes[4096];
    bool any = false;
    /* At most as much as the largest pipe a kernel makes unasked: a writer that
     * keeps ringing must not keep us here. */
    int reads_left = 16;

    while (reads_left-- > 0) {
        ssize_t got = read(fd, bytes, sizeof(bytes));

        if (got == (ssize_t)sizeof(bytes)) {
            any = true;
        } else if (got > 0) {
            return 1;
        } else if (got == 0) {
            /* What it held comes first; the next call finds the end again. */
            return any ? 1 : -EPIPE;
        } else if (errno == EAGAIN) {
            return any;
        } else if (errno != EINTR) {
            return any ? 1 : -errno;
        }
    }
    return any;
}

int fipc_os_poll(int fd, short events, int64_t until_ns) {
    struct pollfd entry = {.fd = fd, .events = events, .revents = 0};
    struct timespec left, *timeout = NULL;
    int64_t now_ns;

    if (until_ns != FIPC_FOREVER) {
        now_ns = fipc_os_now_ns();
        left = timespec_of_ns(until_ns > now_ns ? until_ns - now_ns : 0);
        timeout = &left;
    }
    if (ppoll(&entry, 1, timeout, NULL) < 0)
        return -errno;
    if (entry.revents & POLLNVAL)
        return -EBADF;
    return entry.revents;
}

int fipc_os_random(void *buffer, size_t size) {
    char *at = buffer;

    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += got;
        size -= (size_t)got;
    }
    return 0;
}
