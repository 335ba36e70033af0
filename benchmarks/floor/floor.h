/* floor.h - what the programs of the floor share: their command line, memory, clocks,
 * and two processes that do laps together. No ring, no copy, no system call that is
 * measured; no Python.h, and nothing of csrc/. */
#ifndef FLOOR_H
#define FLOOR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLOOR_CACHE_LINE 64
#define FLOOR_KIB ((size_t)1024)
#define FLOOR_MIB ((size_t)1024 * 1024)
#define FLOOR_NS_PER_S INT64_C(1000000000)

/* What the command line asked for. */
struct floor_run {
    const char *name; /* of the measurement */
    double seconds;   /* how long it should last */
    size_t size;      /* bytes of a message; 0 where that is fixed */
    unsigned sources; /* private buffers that a sender of large messages takes in turn */
};

/* Reads NAME SECONDS LIMIT_SECONDS PARENT_PID SIZE SOURCES. From then on this process ends
 * with its parent, or after LIMIT_SECONDS, and so does its child. Ends it if they are wrong. */
void floor_begin(int argc, char **argv, struct floor_run *run);

/* Says on standard error what failed and why (errno), and ends the process. */
_Noreturn void floor_fail(const char *what);
/* The same for what is wrong without an errno. */
_Noreturn void floor_wrong(const char *what);

/* Prints one number; those named "value" and "unit" are the result. */
void floor_print(const char *name, double number);

/* Memory that children share, and memory that they do not; zeroed and with all its pages
 * there. Ends the process if there is none. */
void *floor_shared(size_t size_bytes);
void *floor_private(size_t size_bytes);
/* Gives back what one of them gave. */
void floor_free(void *at, size_t size_bytes);

int64_t floor_now_ns(void);
/* CPU time of this process, its threads included. */
int64_t floor_cpu_ns(void);

/* One round of waiting without sleeping. Once in a while it gives the CPU away: on a busy
 * machine, what is waited for may need just this one. */
static inline void floor_spin(unsigned *rounds) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
    if (++*rounds % (1U << 8) == 0) {

        (void)sched_yield();
    }
}

/* A lap of one process: `count` messages, numbered from `start`. */
typedef void floor_lap(void *with, uint64_t start, uint64_t count);

/* This process and a child; both do each lap, at the same time. */
struct floor_pair {
    floor_lap *ours;
    void *with;
    struct floor_control *control;
    pid_t child;
    uint64_t next; /* no lap repeats the numbers of another */
};

#define FLOOR_ANYWHERE (-1) /* the system chooses the CPU */

/* Forks a child for `theirs`. `cpu` and `child_cpu` count the CPUs that this process may use,
 * from 0; each process is kept on its own. Left to itself, a busy system puts both on one, which
 * is a different question. A number too high is taken as the last CPU. */
void floor_pair_start(struct floor_pair *pair, floor_lap *ours, floor_lap *theirs, void *with,
                      int cpu, int child_cpu);
/* Does one lap; returns how long our part of it took. */
int64_t floor_pair_lap_ns(struct floor_pair *pair, uint64_t count);
/* Ends the child. */
void floor_pair_end(struct floor_pair *pair);

/* Warms up, then does laps for so long; returns the messages a second of the median lap. */
double floor_pair_rate(struct floor_pair *pair, double seconds);
/* The same without a child: for what one process does alone. */
double floor_rate_alone(floor_lap *ours, void *with, double seconds);

#define FLOOR_MOST_TIMES 1000000
/* Warms up, then does one lap of about so long, of which `ours` notes each message's time in
 * times_ns (FLOOR_MOST_TIMES of them). Prints their median and the slow ones as NAMEp50_us and
 * so on; returns the median in microseconds. */
double floor_pair_times(struct floor_pair *pair, const char *name, int64_t *times_ns,
                        double seconds);

#endif
