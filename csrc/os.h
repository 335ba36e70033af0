/* os.h - the operating system's contract: memory files, room, time, sleeping on
 * a word, file locks, doorbells. Everything that differs between systems stands
 * behind this; os_linux.c and os_room.c keep it on Linux. No shared struct is
 * known here. Errors are negative errno values. */
#ifndef FIPC_OS_H
#define FIPC_OS_H

#include "base.h"

/* Now, in nanoseconds of CLOCK_MONOTONIC. */
int64_t fipc_os_now_ns(void);
/* The same from the tick's clock: cheap, up to 10 ms behind. */
int64_t fipc_os_coarse_now_ns(void);
/* A clock of unknown pace that costs 10 ns where the first one costs 24: the CPU's
 * counter, of which 1 to 5 GHz are known; elsewhere the first one. */
#if defined(__x86_64__)
#define FIPC_TICKS_PER_US 2000
FIPC_ALWAYS_INLINE uint64_t fipc_ticks(void) { return __builtin_ia32_rdtsc(); }
#else
#define FIPC_TICKS_PER_US 1000
FIPC_ALWAYS_INLINE uint64_t fipc_ticks(void) { return (uint64_t)fipc_os_now_ns(); }
#endif
/* CPUs that this thread may run on; asked anew at most every 100 ms. */
int fipc_os_cpu_count(void);
/* Lets others have this CPU, if any want it. */
void fipc_os_yield(void);
/* Sleeps about that long, or until a signal comes. */
void fipc_os_sleep_some(int64_t ns);

/* A new memory file `name` that can grow but never shrink (sealed); its length
 * is `size_bytes`. Returns a close-on-exec descriptor. Errors: as memfd_create(2). */
FIPC_MUST_USE int fipc_os_memfd_create(const char *name, uint64_t size_bytes);
/* The inode number of `fd`, whatever it is. Errors: -EBADF. */
FIPC_MUST_USE int fipc_os_inode(int fd, uint64_t *inode);
/* The inode number of `fd`, the file's length in *length and *sealed = it is a
 * memory file that cannot shrink. Errors: -EBADF. */
FIPC_MUST_USE int fipc_os_memfd_stat(int fd, uint64_t *inode, uint64_t *length, bool *sealed);
/* Maps [offset, offset + size) of fd for reading and writing, kept out of core
 * dumps. Errors: -ENOMEM (RLIMIT_AS or the kernel's map limit), -EBADF, -EACCES. */
FIPC_MUST_USE int fipc_os_map(int fd, uint64_t offset, uint64_t size, void **address);
void fipc_os_unmap(void *address, uint64_t size);
/* Puts memory behind [offset, offset + size) of fd (and lengthens the file), in
 * steps of at most 4 MiB, resuming when interrupted. Asks fipc_os_room() first.
 * *limit then names the limit on failure (static string). Errors: -ENOMEM,
 * -ENOSPC, -EFBIG, -EBADF. What was reserved before a failure stays reserved. */
FIPC_MUST_USE int fipc_os_reserve(int fd, uint64_t offset, uint64_t size, const char **limit);
/* Writes `size` bytes at `offset` of a new fd, whose length is at least their end; memory
 * comes with them. For some pages that nobody has mapped yet: half as expensive as
 * reserving them and writing through a mapping, whose page faults are then the first
 * user's. Errors, and *limit: as fipc_os_reserve(). */
FIPC_MUST_USE int fipc_os_fill(int fd, uint64_t offset, const void *data, uint64_t size,
                               const char **limit);
/* Reads `size` bytes at `offset` of fd, without a page fault. Errors: -EBADF; -EIO, the
 * file ends before. */
FIPC_MUST_USE int fipc_os_peek(int fd, uint64_t offset, void *data, uint64_t size);
/* Gives the memory behind [offset, offset + size) back; it reads as zeros. */
int fipc_os_punch(int fd, uint64_t offset, uint64_t size);
/* Of private memory that was just made by malloc() and will be written from end to end: asks for huge
 * pages behind it, where the system gives them on request. A hint. From FIPC_HUGE_BYTES on each
 * malloc() of the C library's is a mapping of its own, whose pages all have to come: 64 MiB took 29
 * ms to be copied there by pages of 4 KiB, and 6 by huge ones. Smaller memory is used again. */
#define FIPC_HUGE_BYTES (UINT64_C(32) << 20)
void fipc_os_huge(void *data, uint64_t bytes);
/* Bytes of memory behind fd. */
int64_t fipc_os_allocated_bytes(int fd);

/* Is there room for `size` more bytes of memory: MemAvailable, and the limit of
 * this process's memory cgroup (v1 or v2) and of each ancestor? 0, or -ENOMEM with
 * *limit naming the one that says no. Reads /proc and /sys for every MiB asked for,
 * summed over calls; what cannot be read limits nothing. */
FIPC_MUST_USE int fipc_os_room(uint64_t size, const char **limit);

/* The machine's memory. */
uint64_t fipc_os_memory_bytes(void);

/* Sleeps while *word == expected, until woken or until_ns (absolute monotonic,
 * FIPC_FOREVER: no end). 0: woken, or the word had changed; -ETIMEDOUT; -EINTR: a
 * signal handler ran. The word is shared between processes. */
int fipc_os_wait_word(const uint32_t *word, uint32_t expected, int64_t until_ns);
/* Wakes up to `count` sleepers; returns how many. */
int fipc_os_wake_word(const uint32_t *word, int count);

/* An open description of its own for the memory file behind `fd`. */
FIPC_MUST_USE int fipc_os_reopen(int fd, int open_flags);
/* Takes the write lock on byte `pos` through `fd`'s own open description: 0, or
 * -EAGAIN when another description holds it. Never blocks. */
FIPC_MUST_USE int fipc_os_lock_byte(int fd, int64_t pos);
/* 1 when another open description than fd's holds byte `pos`, 0 when none, <0 error. */
FIPC_MUST_USE int fipc_os_byte_is_locked(int fd, int64_t pos);
/* Maps one page through fd so that the mapping keeps fd's description, and with
 * it its file locks, alive: in this process only (MADV_DONTFORK), or, if inherited, also
 * in children that it forks from now on. */
FIPC_MUST_USE int fipc_os_pin(int fd, bool inherited, void **address);

/* This process, in its own pid namespace. */
uint32_t fipc_os_pid(void);

/* A word that reads 0 in every forked child, however it was forked, until the
 * child stores another there. NULL when memory is short. */
uint64_t *fipc_os_fork_token(void);

/* A pipe of one page, non-blocking, close-on-exec. fds[0] reads, fds[1] writes. */
FIPC_MUST_USE int fipc_os_pipe(int fds[2]);
/* One descriptor that reads and writes a pipe of one page (a queue's doorbell). */
FIPC_MUST_USE int fipc_os_doorbell(void);
/* Puts one byte into a pipe; 0 also when it is full. -EPIPE: nobody reads. */
int fipc_os_ring(int fd);
/* Takes out all that a pipe holds: 1 when there was something, 0 when there was
 * nothing, -EPIPE when nobody writes any more. */
int fipc_os_drain(int fd);
/* What poll(2) says of one descriptor: revents, 0 after until_ns, -EINTR. */
int fipc_os_poll(int fd, short events, int64_t until_ns);

/* Fills `size` random bytes. */
FIPC_MUST_USE int fipc_os_random(void *buffer, size_t size);

#endif
