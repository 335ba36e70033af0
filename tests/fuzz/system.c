/* system.c - the operating system as the fuzzers' builds have it, by the linker's --wrap: time
 * passes only when it is asked for, no sleep lasts, and on both sides of each mapping lie pages
 * that nobody may touch. So an input that would wait costs nothing, and what does not end is an
 * endless loop and not a long wait. Sleeps are now and then ended as by a signal: whatever waits
 * without a deadline is to return then. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "atomics.h"
#include "os.h"
#include "os_room.h"

#define GUARD_BYTES (UINT64_C(1) << 20)
#define SIGNAL_EVERY 16

static int64_t clock_ns = 1000 * FIPC_NS_PER_MS;
static uint32_t sleeps;

int64_t __wrap_fipc_os_now_ns(void);
int64_t __wrap_fipc_os_coarse_now_ns(void);
int __wrap_fipc_os_wait_word(const uint32_t *word, uint32_t expected, int64_t until_ns);
int __wrap_fipc_os_poll(int fd, short events, int64_t until_ns);
int __wrap_fipc_os_cpu_count(void);
int __wrap_fipc_os_room_spare(uint64_t size, uint64_t *spare_bytes, const char **limit);
int __wrap_fipc_os_map(int fd, uint64_t offset, uint64_t size, void **address);
void __wrap_fipc_os_unmap(void *address, uint64_t size);

int64_t __wrap_fipc_os_now_ns(void) { return fipc_fetch_add_relaxed(&clock_ns, 1000); }

int64_t __wrap_fipc_os_coarse_now_ns(void) { return fipc_fetch_add_relaxed(&clock_ns, 1000); }

/* A sleep until then: 0, or -EINTR. */
static int sleep_until(int64_t until_ns) {
    if (fipc_fetch_add_relaxed(&sleeps, 1) % SIGNAL_EVERY == 0 || until_ns == FIPC_FOREVER)
        return -EINTR;
    if (until_ns > fipc_load_relaxed(&clock_ns))
        fipc_store_relaxed(&clock_ns, until_ns);
    return 0;
}

int __wrap_fipc_os_wait_word(const uint32_t *word, uint32_t expected, int64_t until_ns) {
    if (fipc_load_relaxed(word) != expected)
        return 0;
    return sleep_until(until_ns) < 0 ? -EINTR : -ETIMEDOUT;
}

int __wrap_fipc_os_poll(int fd, short events, int64_t until_ns) {
    struct pollfd asked = {.fd = fd, .events = events};

    if (poll(&asked, 1, 0) < 0)
        return -errno;
    return asked.revents != 0 ? asked.revents : sleep_until(until_ns);
}

/* Nobody spins. */
int __wrap_fipc_os_cpu_count(void) { return 1; }

/* Limits are other tests' business, and reading them takes longer than most inputs. */
int __wrap_fipc_os_room_spare(uint64_t size, uint64_t *spare_bytes, const char **limit) {
    (void)size;
    (void)limit;
    *spare_bytes = FIPC_ROOM_AMPLE;
    return 0;
}

int __wrap_fipc_os_map(int fd, uint64_t offset, uint64_t size, void **address) {
    uint8_t *room = mmap(NULL, size + 2 * GUARD_BYTES, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (room == MAP_FAILED)
        return -errno;
    if (mmap(room + GUARD_BYTES, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             (off_t)offset) == MAP_FAILED) {
        int rc = -errno;

        (void)munmap(room, size + 2 * GUARD_BYTES);
        return rc;
    }
    *address = room + GUARD_BYTES;
    return 0;
}

void __wrap_fipc_os_unmap(void *address, uint64_t size) {
    /* The page that keeps a slot's lock was mapped by fipc_os_pin(), without guards. */
    if (size == 4096)
        (void)munmap(address, size);
    else
        (void)munmap((uint8_t *)address - GUARD_BYTES, size + 2 * GUARD_BYTES);
}
