/* test_os_faults.c - os.h on kernels that this one is not: fallocate(2),
 * memfd_create(2) and madvise(2) are replaced by ones that fail as told. */
#define _GNU_SOURCE
#include "os.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "check.h"

#define MIB (UINT64_C(1) << 20)

static const char *limit;

static struct {
    int fallocate_errno; /* each fallocate() past fallocate_after bytes fails so */
    uint64_t fallocate_after;
    bool interrupts_unblocked; /* fallocate() is interrupted unless signals are blocked */
    int fallocate_calls;
    uint64_t longest_step;
    unsigned unknown_flags; /* memfd_create() refuses these with EINVAL */
    int refused_advice;     /* madvise() refuses this with EINVAL */
} kernel;

static void new_kernel(void) {
    memset(&kernel, 0, sizeof(kernel));
    kernel.refused_advice = -1;
    limit = "none";
}

static bool signals_are_blocked(void) {
    sigset_t now;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    return sigismember(&now, SIGUSR1) == 1 && sigismember(&now, SIGINT) == 1;
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
    kernel.fallocate_calls++;
    if ((uint64_t)size > kernel.longest_step)
        kernel.longest_step = (uint64_t)size;
    if (kernel.interrupts_unblocked && !signals_are_blocked()) {
        errno = EINTR;
        return -1;
    }
    if (kernel.fallocate_errno && (uint64_t)(offset + size) > kernel.fallocate_after) {
        errno = kernel.fallocate_errno;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int memfd_create(const char *name, unsigned flags) {
    if (flags & kernel.unknown_flags) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_memfd_create, name, flags);
}

int madvise(void *address, size_t size, int advice) {
    if (advice == kernel.refused_advice) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, address, size, advice);
}

static int new_file(void) {
    int fd = fipc_os_memfd_create("fastipc:test", 0);

    CHECK_OK(fd);
    return fd;
}

static void a_kernel_without_noexec_seals_still_makes_memory_files(void) {
    uint64_t inode, length;
    bool sealed;
    int fd, again;

    new_kernel();
    kernel.unknown_flags = 0x0008U; /* MFD_NOEXEC_SEAL, since Linux 6.3 */
    fd = fipc_os_memfd_create("fastipc:test", 4096);
    CHECK_OK(fd);
    CHECK_EQ(fipc_os_memfd_stat(fd, &inode, &length, &sealed), 0);
    CHECK(sealed);
    CHECK_EQ(length, 4096);
    again = fipc_os_reopen(fd, O_RDWR);
    CHECK_OK(again);
    close(fd);
    close(again);
}

static void reserving_works_in_steps_of_at_most_4_mib(void) {
    int fd;

    new_kernel();
    fd = new_file();
    CHECK_EQ(fipc_os_reserve(fd, 0, 17 * MIB, &limit), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 17 * MIB);
    CHECK(kernel.longest_step <= 4 * MIB);
    CHECK(kernel.fallocate_calls >= 5);
    close(fd);
}

static void reserving_ends_although_each_step_is_interrupted(void) {
    sigset_t before, after;
    int fd;

    new_kernel();
    kernel.interrupts_unblocked = true;
    fd = new_file();
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    CHECK_EQ(fipc_os_reserve(fd, 0, 17 * MIB, &limit), 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_EQ(memcmp(&before, &after, sizeof(before)), 0);
    CHECK_EQ(fipc_os_allocated_bytes(fd), 17 * MIB);
    close(fd);
}

static void reserving_gives_up_when_interrupted_for_ever(void) {
    int fd;

    new_kernel();
    kernel.fallocate_errno = EINTR;
    fd = new_file();
    CHECK_EQ(fipc_os_reserve(fd, 0, MIB, &limit), -EINTR);
    close(fd);
}

static void a_refusal_names_its_limit_and_keeps_what_was_reserved(void) {
    static const struct {
        int number;
        const char *named;
    } refusals[] = {{ENOMEM, "kernel memory"}, {EFBIG, "RLIMIT_FSIZE"}};

    for (size_t i = 0; i < 2; i++) {
        int fd;

        new_kernel();
        kernel.fallocate_errno = refusals[i].number;
        kernel.fallocate_after = 8 * MIB;
        fd = new_file();
        CHECK_EQ(fipc_os_reserve(fd, 0, 12 * MIB, &limit), -refusals[i].number);
        CHECK_STR(limit, refusals[i].named);
        CHECK_EQ(fipc_os_allocated_bytes(fd), 8 * MIB);
        close(fd);
    }
    new_kernel();
    kernel.fallocate_errno = ENOSPC;
    CHECK_EQ(fipc_os_reserve(0, 0, MIB, &limit), -ENOSPC);
    CHECK(strstr(limit, "the memory file system's size") == limit ||
          strstr(limit, "the kernel's commit limit") == limit);
}

static void a_mapping_that_children_would_inherit_is_no_pin(void) {
    void *address = NULL;
    int fd;

    new_kernel();
    fd = new_file();
    kernel.refused_advice = MADV_DONTFORK;
    CHECK_EQ(fipc_os_pin(fd, false, &address), -EINVAL);
    CHECK(address == NULL);
    close(fd);
}

static void a_kernel_that_cannot_wipe_on_fork_gives_no_token(void) {
    new_kernel();
    kernel.refused_advice = MADV_WIPEONFORK;
    CHECK(fipc_os_fork_token() == NULL);
    /* And what it is for elsewhere works without it. */
    CHECK_EQ(fipc_os_room(MIB, &limit), 0);
    CHECK_EQ(fipc_os_room(UINT64_C(1) << 50, &limit), -ENOMEM);
    kernel.refused_advice = -1;
    CHECK(fipc_os_fork_token() != NULL);
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(a_kernel_that_cannot_wipe_on_fork_gives_no_token);
    CHECK_RUN(a_kernel_without_noexec_seals_still_makes_memory_files);
    CHECK_RUN(reserving_works_in_steps_of_at_most_4_mib);
    CHECK_RUN(reserving_ends_although_each_step_is_interrupted);
    CHECK_RUN(reserving_gives_up_when_interrupted_for_ever);
    CHECK_RUN(a_refusal_names_its_limit_and_keeps_what_was_reserved);
    CHECK_RUN(a_mapping_that_children_would_inherit_is_no_pin);
    return CHECK_END();
}
