/* floor.c - see floor.h. */
#include "floor.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define LAPS 9
/* A lap that is shorter says more about its start than about the messages. */
#define LEAST_LAP_NS 200000
#define FEWEST_TIMES 200

/* Through this the parent starts laps and learns of their end. */
struct floor_control {
    uint32_t lap; /* written by the parent, release: start and count are those of this lap */
    uint32_t spare[15];
    uint32_t done; /* written by the child, release: it has done this lap */
    uint32_t spare_done[15];
    uint64_t start;
    uint64_t count; /* 0: there are no more laps */
};

static volatile sig_atomic_t child_may_end;
static cpu_set_t cpus_at_start;
static struct {
    uint8_t *at;
    size_t size_bytes;
} shared[8];

void floor_fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

void floor_wrong(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

void floor_print(const char *name, double number) { printf("%s %.9g\n", name, number); }

/* The kernel then kills this process when its parent ends, also when that was killed. */
static void end_with(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        floor_fail("prctl");
    if (getppid() != parent)
        exit(1); /* it ended before we asked */
}

static void on_child_end(int number) {
    static const char text[] = "the second process died\n";

    (void)number;
    if (!child_may_end) {
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
            _exit(2);
        _exit(1);
    }
}

static double number_of(const char *text) {
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || !(number >= 0))
        floor_wrong("each of the numbers on the command line must be one, and not negative");
    return number;
}

void floor_begin(int argc, char **argv, struct floor_run *run) {
    struct sigaction on_child = {.sa_handler = on_child_end, .sa_flags = SA_NOCLDSTOP};
    double limit_seconds;
    pid_t parent;

    if (argc != 7)
        floor_wrong("usage: NAME SECONDS LIMIT_SECONDS PARENT_PID SIZE SOURCES; "
                    "python -m benchmarks.floor knows them");
    run->name = argv[1];
    run->seconds = number_of(argv[2]);
    run->size = (size_t)number_of(argv[5]);
    run->sources = (unsigned)number_of(argv[6]);
    limit_seconds = number_of(argv[3]);
    parent = (pid_t)number_of(argv[4]);
    end_with(parent);
    alarm((unsigned)limit_seconds + 1);
    if (sigaction(SIGCHLD, &on_child, NULL) != 0)
        floor_fail("sigaction");
    if (sched_getaffinity(0, sizeof(cpus_at_start), &cpus_at_start) != 0)
        floor_fail("sched_getaffinity");
}

static void *map(size_t size_bytes, int kind) {
    void *at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        floor_fail("mmap");
    memset(at, 0, size_bytes);
    return at;
}

void *floor_shared(size_t size_bytes) {
    void *at = map(size_bytes, MAP_SHARED);

    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
        if (shared[i].at == NULL) {
            shared[i].at = at;
            shared[i].size_bytes = size_bytes;
            return at;
        }
    floor_wrong("too many pieces of shared memory");
}

void *floor_private(size_t size_bytes) { return map(size_bytes, MAP_PRIVATE); }

void floor_free(void *at, size_t size_bytes) {
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
        if (shared[i].at == at)
            shared[i].at = NULL;
    (void)munmap(at, size_bytes);
}

/* A fork does not copy the page tables of shared memory: without this, the child would meet each
 * page for the first time while the clock runs. */
static void meet_shared_pages(void) {
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
        for (size_t at = 0; shared[i].at != NULL && at < shared[i].size_bytes; at += 4096)
            (void)*(const volatile uint8_t *)(shared[i].at + at);
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec at;

    if (clock_gettime(clock, &at) != 0)
        floor_fail("clock_gettime");
    return at.tv_sec * FLOOR_NS_PER_S + at.tv_nsec;
}

int64_t floor_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

int64_t floor_cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

static void pin(int index) {
    cpu_set_t wanted;
    int last = CPU_COUNT(&cpus_at_start) - 1;

    if (index == FLOOR_ANYWHERE)
        return;
    index = index < last ? index : last;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &cpus_at_start) || index-- > 0)
            continue;
        CPU_ZERO(&wanted);
        CPU_SET(cpu, &wanted);
        if (sched_setaffinity(0, sizeof(wanted), &wanted) != 0)
            floor_fail("sched_setaffinity");
        return;
    }
}

_Noreturn static void be_child(const struct floor_pair *pair, floor_lap *theirs) {
    struct floor_control *control = pair->control;
    uint32_t last = 0;

    for (;;) {
        unsigned rounds = 0;

        while (__atomic_load_n(&control->lap, __ATOMIC_ACQUIRE) == last)
            floor_spin(&rounds);
        last++;
        if (control->count == 0)
            _exit(0);
        theirs(pair->with, control->start, control->count);
        __atomic_store_n(&control->done, last, __ATOMIC_RELEASE);
    }
}

void floor_pair_start(struct floor_pair *pair, floor_lap *ours, floor_lap *theirs, void *with,
                      int cpu, int child_cpu) {
    pid_t parent = getpid();

    pair->ours = ours;
    pair->with = with;
    pair->next = 1;
    pair->control = floor_shared(sizeof(*pair->control));
    child_may_end = 0;
    fflush(stdout); /* or the child might print it again */
    pair->child = fork();
    if (pair->child < 0)
        floor_fail("fork");
    if (pair->child == 0) {
        end_with(parent);
        pin(child_cpu);
        meet_shared_pages();
        be_child(pair, theirs);
    }
    pin(cpu);
}

static void next_lap(struct floor_pair *pair, uint64_t count) {
    pair->control->start = pair->next;
    pair->control->count = count;
    __atomic_fetch_add(&pair->control->lap, 1, __ATOMIC_RELEASE);
}

int64_t floor_pair_lap_ns(struct floor_pair *pair, uint64_t count) {
    int64_t start_ns = floor_now_ns(), took_ns;
    unsigned rounds = 0;

    next_lap(pair, count);
    pair->ours(pair->with, pair->next, count);
    took_ns = floor_now_ns() - start_ns;
    while (__atomic_load_n(&pair->control->done, __ATOMIC_ACQUIRE) != pair->control->lap)
        floor_spin(&rounds);
    pair->next += count;
    return took_ns > 0 ? took_ns : 1;
}

void floor_pair_end(struct floor_pair *pair) {
    int status;

    child_may_end = 1;
    next_lap(pair, 0);
    while (waitpid(pair->child, &status, 0) < 0)
        if (errno != EINTR)
            floor_fail("waitpid");
    if (status != 0)
        floor_wrong("the second process failed");
    floor_free(pair->control, sizeof(*pair->control));
    if (sched_setaffinity(0, sizeof(cpus_at_start), &cpus_at_start) != 0)
        floor_fail("sched_setaffinity");
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* `lap` does a lap and says how long it took. */
static double median_rate(int64_t (*lap)(void *, uint64_t), void *with, double seconds) {
    int64_t wanted_ns = (int64_t)(seconds * 1e9 / LAPS), took_ns;
    uint64_t count = 1;
    double rates[LAPS];

    if (wanted_ns < LEAST_LAP_NS)
        wanted_ns = LEAST_LAP_NS;
    while ((took_ns = lap(with, count)) < wanted_ns / 2)
        count = took_ns < wanted_ns / 16 ? count * 8 : count * 2;
    count = (uint64_t)((double)count * (double)wanted_ns / (double)took_ns) + 1;
    for (int i = 0; i < LAPS; i++)
        rates[i] = (double)count * 1e9 / (double)lap(with, count);
    qsort(rates, LAPS, sizeof(rates[0]), by_size);
    return rates[LAPS / 2];
}

static int64_t lap_of_pair(void *with, uint64_t count) { return floor_pair_lap_ns(with, count); }

double floor_pair_rate(struct floor_pair *pair, double seconds) {
    return median_rate(lap_of_pair, pair, seconds);
}

struct alone {
    floor_lap *ours;
    void *with;
};

static int64_t lap_alone(void *with, uint64_t count) {
    const struct alone *alone = with;
    int64_t start_ns = floor_now_ns();
    int64_t took_ns;

    alone->ours(alone->with, 1, count);
    took_ns = floor_now_ns() - start_ns;
    return took_ns > 0 ? took_ns : 1;
}

double floor_rate_alone(floor_lap *ours, void *with, double seconds) {
    struct alone alone = {ours, with};

    return median_rate(lap_alone, &alone, seconds);
}

static int by_time(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static double print_times(const char *name, int64_t *times_ns, size_t count) {
    static const struct {
        const char *name;
        double part;
    } cuts[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    char full_name[64];

    qsort(times_ns, count, sizeof(times_ns[0]), by_time);
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        snprintf(full_name, sizeof(full_name), "%s%s_us", name, cuts[i].name);
        floor_print(full_name, (double)times_ns[(size_t)((double)count * cuts[i].part)] / 1e3);
    }
    return (double)times_ns[count / 2] / 1e3;
}

double floor_pair_times(struct floor_pair *pair, const char *name, int64_t *times_ns,
                        double seconds) {
    uint64_t count = FEWEST_TIMES;
    double wanted;

    (void)floor_pair_lap_ns(pair, count);
    wanted = (double)count * seconds * 1e9 / (double)floor_pair_lap_ns(pair, count);
    if (wanted > (double)count)
        count = wanted < FLOOR_MOST_TIMES ? (uint64_t)wanted : FLOOR_MOST_TIMES;
    /* The fork left these pages to be copied when they are next written. */
    memset(times_ns, 0, count * sizeof(times_ns[0]));
    (void)floor_pair_lap_ns(pair, count);
    return print_times(name, times_ns, count);
}
