/* Records which instructions a traced process executes inside given address
 * ranges, and kills it right before one of them. Owns ptrace; knows nothing of
 * what is traced. Loaded by stepper.py through ctypes, in the tracer and (being
 * inherited over fork) in the victim.
 *
 * Stepping through a whole Python call is slow (a stop costs 5 to 20 us), so
 * outside the ranges the victim runs freely: their text is made unexecutable,
 * and the fault of the next entry tells that it is back. A kill needs no
 * stepping at all: a hardware breakpoint counts how often an address is met.
 * Where a victim takes another way at full speed, it is killed at the speed of
 * the recording instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__linux__)

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>

/* How a traced operation ended; the same numbers stand in stepper.py. */
enum ending {
    ENDING_FINISHED = 1, /* reached stepper_end(); detached, runs on */
    ENDING_KILLED = 2,   /* killed at the instruction that was asked for */
    ENDING_DIED = 3,     /* exited or crashed by itself: wait_status */
    ENDING_HUNG = 4,     /* past the deadline; killed */
    ENDING_ERROR = 5,    /* the tracer failed: error; killed */
};

struct stepper_range {
    uint64_t start, end;
};

/* Where to kill: before the instruction at `address` is executed for the
 * `occurrence`-th time (from 1). With a `callee_address` the kill comes later:
 * when the instruction there is met for the `callee_occurrence`-th time after
 * that, which is on behalf of the call that stands at `address`. */
struct stepper_point {
    uint64_t address, occurrence;
    uint64_t callee_address, callee_occurrence;
};

struct stepper_outcome {
    int32_t ending;
    int32_t wait_status;
    int32_t error;
    int32_t reserved;
    uint64_t count;   /* instructions counted, or breakpoints met */
    uint64_t address; /* of the last instruction that was looked at */
};

struct tracer {
    pid_t pid;
    const struct stepper_range *inside;
    size_t inside_count;
    const struct stepper_range *callees;
    size_t callee_count;
    int64_t deadline_ns;
    int is_protected;
    int deferred_signal;    /* came while a system call was injected */
    const uint64_t *pauses; /* where the victim is held for a while, NULL: nowhere */
    size_t pause_count;
};

#define MOST_PAUSES 3 /* there are four hardware breakpoints */

/* The victim's stops and the injected system call have fixed addresses, which a
 * forked victim shares with its tracer. */
__asm__(".text\n"
        ".globl stepper_begin_stop, stepper_end_stop, stepper_syscall\n"
        ".hidden stepper_begin_stop, stepper_end_stop, stepper_syscall\n"
        "stepper_begin_stop: int3\n  ret\n"
        "stepper_end_stop: int3\n  ret\n"
        "stepper_syscall: syscall\n  int3\n");
extern void stepper_begin_stop(void);
extern void stepper_end_stop(void);
extern char stepper_syscall[];

/* ---- the victim's side ---- */

/* Makes the caller traceable by its parent and stops. Returns 0 or -errno. */
int stepper_begin(void) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        return -errno;
    stepper_begin_stop();
    return 0;
}

void stepper_end(void) { stepper_end_stop(); }

/* ---- the tracer's side ---- */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void ignore_tick(int number) { (void)number; }

struct ticker {
    struct sigaction old_action;
    struct itimerval old_timer;
};

/* Interrupts waitpid() every 50 ms, so that it can look at the deadline. */
static void ticker_start(struct ticker *ticker) {
    struct sigaction action;
    struct itimerval timer = {{0, 50000}, {0, 50000}};
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore_tick; /* no SA_RESTART: waitpid returns EINTR */
    sigaction(SIGALRM, &action, &ticker->old_action);
    setitimer(ITIMER_REAL, &timer, &ticker->old_timer);
}

static void ticker_stop(const struct ticker *ticker) {
    setitimer(ITIMER_REAL, &ticker->old_timer, NULL);
    sigaction(SIGALRM, &ticker->old_action, NULL);
}

/* Waits for the victim's next stop or end. Returns 0, -ETIMEDOUT or -errno. */
static int wait_victim(const struct tracer *tracer, int *status) {
    for (;;) {
        if (waitpid(tracer->pid, status, __WALL) == tracer->pid)
            return 0;
        if (errno != EINTR)
            return -errno;
        if (now_ns() > tracer->deadline_ns)
            return -ETIMEDOUT;
    }
}

static int resume(const struct tracer *tracer, int request, int signal_number) {
    return ptrace(request, tracer->pid, NULL, (void *)(intptr_t)signal_number) < 0 ? -errno : 0;
}

static int get_registers(const struct tracer *tracer, struct user_regs_struct *registers) {
    return ptrace(PTRACE_GETREGS, tracer->pid, NULL, registers) < 0 ? -errno : 0;
}

static int set_registers(const struct tracer *tracer, struct user_regs_struct *registers) {
    return ptrace(PTRACE_SETREGS, tracer->pid, NULL, registers) < 0 ? -errno : 0;
}

static int is_within(uint64_t address, const struct stepper_range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (address >= ranges[i].start && address < ranges[i].end)
            return 1;
    return 0;
}

static int read_text(const struct tracer *tracer, uint64_t address, uint8_t bytes[16]) {
    for (size_t i = 0; i < 16; i += sizeof(long)) {
        long word;
        errno = 0;
        word = ptrace(PTRACE_PEEKTEXT, tracer->pid, (void *)(address + i), NULL);
        if (errno != 0)
            return -errno;
        memcpy(bytes + i, &word, sizeof word);
    }
    return 0;
}

/* Returns the length of the repeated string instruction at the address, 0 if
 * what stands there is something else, or -errno. */
static int repeated_string_length(const struct tracer *tracer, uint64_t address) {
    uint8_t text[16];
    int is_repeated = 0;
    int rc = read_text(tracer, address, text);
    if (rc < 0)
        return rc;
    for (int i = 0; i < 8; i++) {
        uint8_t byte = text[i];
        if (byte == 0xf2 || byte == 0xf3)
            is_repeated = 1;
        else if ((byte >= 0xa4 && byte <= 0xa7) || (byte >= 0xaa && byte <= 0xaf))
            return is_repeated ? i + 1 : 0;
        else if (byte != 0x66 && byte != 0x67 && (byte < 0x40 || byte > 0x4f) &&
                 !(byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
                   byte == 0x65))
            return 0;
    }
    return 0;
}

static int poke_debug_register(const struct tracer *tracer, size_t number, uint64_t value) {
    void *slot = (void *)(offsetof(struct user, u_debugreg) +
                          number * sizeof((struct user *)0)->u_debugreg[0]);
    return ptrace(PTRACE_POKEUSER, tracer->pid, slot, (void *)value) < 0 ? -errno : 0;
}

/* Sets hardware breakpoint 0 of the victim's thread, and the others where it is to be held;
 * address 0 clears all. Of the thread, not of the text: the victim's other threads run through
 * it. */
static int set_breakpoint(const struct tracer *tracer, uint64_t address) {
    uint64_t control = 1;
    int rc = poke_debug_register(tracer, 7, 0);
    if (rc < 0 || address == 0)
        return rc;
    if ((rc = poke_debug_register(tracer, 0, address)) < 0)
        return rc;
    for (size_t i = 0; i < tracer->pause_count; i++) {
        if ((rc = poke_debug_register(tracer, i + 1, tracer->pauses[i])) < 0)
            return rc;
        control |= UINT64_C(1) << (2 * (i + 1));
    }
    return poke_debug_register(tracer, 7, control);
}

static void pause_at(const struct tracer *tracer, uint64_t address, struct timespec pause) {
    for (size_t i = 0; i < tracer->pause_count; i++)
        if (tracer->pauses[i] == address)
            while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
                ; /* a tick */
}

/* Makes the ranges executable or not by a system call in the victim's name. */
static int protect(struct tracer *tracer, int is_executable) {
    struct user_regs_struct saved, call;
    int rc = get_registers(tracer, &saved);
    if (rc < 0)
        return rc;
    saved.orig_rax = (unsigned long long)-1; /* nothing of the kernel's to restart */
    for (size_t i = 0; i < tracer->inside_count; i++) {
        int status;
        call = saved;
        call.rax = SYS_mprotect;
        call.rdi = tracer->inside[i].start;
        call.rsi = tracer->inside[i].end - tracer->inside[i].start;
        call.rdx = PROT_READ | (is_executable ? PROT_EXEC : 0);
        call.rip = (uint64_t)stepper_syscall;
        do {
            if ((rc = set_registers(tracer, &call)) < 0 ||
                (rc = resume(tracer, PTRACE_SINGLESTEP, 0)) < 0 ||
                (rc = wait_victim(tracer, &status)) < 0)
                return rc;
            if (!WIFSTOPPED(status))
                return -ESRCH;
            if (WSTOPSIG(status) != SIGTRAP)
                tracer->deferred_signal = WSTOPSIG(status);
        } while (WSTOPSIG(status) != SIGTRAP);
        if ((rc = get_registers(tracer, &call)) < 0)
            return rc;
        if (call.rax != 0)
            return (int)call.rax;
    }
    tracer->is_protected = !is_executable;
    return set_registers(tracer, &saved);
}

static void end_victim(struct tracer *tracer, struct stepper_outcome *outcome, int ending,
                       int error) {
    int status = 0;
    outcome->ending = ending;
    outcome->error = error;
    kill(tracer->pid, SIGKILL);
    for (;;) {
        pid_t ended = waitpid(tracer->pid, &status, __WALL);
        if (ended < 0 && errno == EINTR)
            continue; /* a tick: the victim is not gone yet, and still has its file lock */
        if (ended < 0)
            break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            outcome->wait_status = status;
            break;
        }
    }
}

/* Waits until the victim stands in stepper_begin(). Returns 1, or 0 when the
 * outcome is settled. */
static int await_begin(struct tracer *tracer, struct stepper_outcome *outcome) {
    struct user_regs_struct registers;
    for (;;) {
        int status;
        int rc = wait_victim(tracer, &status);
        if (rc < 0) {
            end_victim(tracer, outcome, rc == -ETIMEDOUT ? ENDING_HUNG : ENDING_ERROR, -rc);
            return 0;
        }
        if (!WIFSTOPPED(status)) {
            outcome->ending = ENDING_DIED;
            outcome->wait_status = status;
            return 0;
        }
        if ((rc = get_registers(tracer, &registers)) < 0) {
            end_victim(tracer, outcome, ENDING_ERROR, -rc);
            return 0;
        }
        if (WSTOPSIG(status) == SIGTRAP && registers.rip == (uint64_t)stepper_begin_stop + 1)
            break;
        resume(tracer, PTRACE_CONT, WSTOPSIG(status));
    }
    /* A victim never outlives its tracer. */
    if (ptrace(PTRACE_SETOPTIONS, tracer->pid, NULL, (void *)PTRACE_O_EXITKILL) < 0) {
        end_victim(tracer, outcome, ENDING_ERROR, errno);
        return 0;
    }
    return 1;
}

/* Whether the stop is the fault of entering a protected range at rip. */
static int is_entry_fault(const struct tracer *tracer, int signal_number, uint64_t rip) {
    siginfo_t info;
    return tracer->is_protected && signal_number == SIGSEGV &&
           is_within(rip, tracer->inside, tracer->inside_count) &&
           ptrace(PTRACE_GETSIGINFO, tracer->pid, NULL, &info) == 0 &&
           (uint64_t)info.si_addr == rip;
}

/* Runs a victim that stands before a repeated string instruction's next
 * iteration to the instruction behind it. Returns 0 or -errno. */
static int run_past(struct tracer *tracer, uint64_t next_address) {
    int status;
    int rc = set_breakpoint(tracer, next_address);
    if (rc < 0 || (rc = resume(tracer, PTRACE_CONT, 0)) < 0)
        return rc;
    for (;;) {
        if ((rc = wait_victim(tracer, &status)) < 0)
            return rc;
        if (!WIFSTOPPED(status))
            return -ESRCH;
        if (WSTOPSIG(status) == SIGTRAP)
            return set_breakpoint(tracer, 0);
        tracer->deferred_signal = WSTOPSIG(status);
        if ((rc = resume(tracer, PTRACE_CONT, 0)) < 0)
            return rc;
    }
}

/* Counts an instruction that is about to be executed; tells whether it is the
 * point. `met` counts from 0, and again once the call is found. */
static int is_reached(struct stepper_point *point, uint64_t address, uint64_t *met) {
    if (address != point->address || ++*met != point->occurrence)
        return 0;
    if (point->callee_address == 0)
        return 1;
    point->address = point->callee_address;
    point->occurrence = point->callee_occurrence;
    point->callee_address = 0;
    *met = 0;
    return 0;
}

static int take_deferred(struct tracer *tracer) {
    int signal_number = tracer->deferred_signal;
    tracer->deferred_signal = 0;
    return signal_number;
}

/* Runs the victim from stepper_begin() to stepper_end() and writes down, in the
 * order of execution, the address of each instruction inside the ranges; those
 * in `callees` only while they were entered from inside. `is_free_outside` = 0
 * single-steps everywhere instead (slow; for victims with further threads, which
 * must not meet a protected range). Instructions past `capacity` are counted
 * only. A repeated string instruction counts once. With `end` the victim is
 * killed there, if it gets there. */
void stepper_record(int pid, const struct stepper_range *inside, size_t inside_count,
                    const struct stepper_range *callees, size_t callee_count, int is_free_outside,
                    int64_t timeout_ms, const struct stepper_point *end, uint64_t *addresses,
                    size_t capacity, struct stepper_outcome *outcome) {
    struct tracer tracer = {
        pid, inside, inside_count, callees, callee_count, now_ns() + timeout_ms * 1000000,
        0,   0,      NULL,         0};
    struct user_regs_struct registers;
    struct ticker ticker;
    struct stepper_point point = {0};
    uint64_t met = 0;  /* so often, the point's address */
    uint64_t last = 0; /* the last instruction counted; 0: was outside */
    int is_stepping = 0;
    int signal_number = 0;
    int rc = 0;

    memset(outcome, 0, sizeof *outcome);
    if (end != NULL)
        point = *end;
    ticker_start(&ticker);
    if (!await_begin(&tracer, outcome))
        goto stop_ticker;
    if (is_free_outside && (rc = protect(&tracer, 0)) < 0)
        goto fail;
    for (;;) {
        int status;
        is_stepping = last != 0 || !is_free_outside;
        if (signal_number == 0)
            signal_number = take_deferred(&tracer);
        if ((rc = resume(&tracer, is_stepping ? PTRACE_SINGLESTEP : PTRACE_CONT, signal_number)) <
                0 ||
            (rc = wait_victim(&tracer, &status)) < 0)
            goto fail;
        signal_number = 0;
        if (!WIFSTOPPED(status)) {
            outcome->ending = ENDING_DIED;
            outcome->wait_status = status;
            goto stop_ticker;
        }
        if ((rc = get_registers(&tracer, &registers)) < 0)
            goto fail;
        if (WSTOPSIG(status) == SIGTRAP && registers.rip == (uint64_t)stepper_end_stop + 1)
            break;
        if (is_entry_fault(&tracer, WSTOPSIG(status), registers.rip)) {
            if ((rc = protect(&tracer, 1)) < 0)
                goto fail;
        } else if (WSTOPSIG(status) != SIGTRAP || !is_stepping) {
            signal_number = WSTOPSIG(status); /* the victim's own */
            continue;
        }
        if (registers.rip == last) {
            int length = repeated_string_length(&tracer, last);
            if ((rc = length) < 0)
                goto fail;
            if (length > 0) {
                if ((rc = run_past(&tracer, last + (uint64_t)length)) < 0 ||
                    (rc = get_registers(&tracer, &registers)) < 0)
                    goto fail;
            }
        }
        if (is_within(registers.rip, inside, inside_count) ||
            (last != 0 && is_within(registers.rip, callees, callee_count))) {
            last = outcome->address = registers.rip;
            if (outcome->count < capacity)
                addresses[outcome->count] = last;
            outcome->count++;
            if (end != NULL && is_reached(&point, last, &met)) {
                end_victim(&tracer, outcome, ENDING_KILLED, 0);
                goto stop_ticker;
            }
        } else {
            last = 0;
            if (is_free_outside && !tracer.is_protected && (rc = protect(&tracer, 0)) < 0)
                goto fail;
        }
    }
    if (tracer.is_protected && (rc = protect(&tracer, 1)) < 0)
        goto fail;
    if ((rc = resume(&tracer, PTRACE_DETACH, take_deferred(&tracer))) < 0)
        goto fail;
    outcome->ending = ENDING_FINISHED;
    goto stop_ticker;
fail:
    end_victim(&tracer, outcome, rc == -ETIMEDOUT ? ENDING_HUNG : ENDING_ERROR, -rc);
stop_ticker:
    ticker_stop(&ticker);
}

/* Kills the victim at the point. If it does not get there it is detached at
 * stepper_end(). Before each instruction at one of `pauses` (three at most) it is held for
 * `pause_us` microseconds. */
void stepper_kill(int pid, const struct stepper_point *end, const uint64_t *pauses,
                  size_t pause_count, int64_t pause_us, int64_t timeout_ms,
                  struct stepper_outcome *outcome) {
    struct tracer tracer = {pid, NULL, 0, NULL, 0, now_ns() + timeout_ms * 1000000, 0, 0, NULL, 0};
    struct user_regs_struct registers;
    struct stepper_point point = *end;
    const struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
    struct ticker ticker;
    int signal_number = 0;
    int rc;

    memset(outcome, 0, sizeof *outcome);
    tracer.pauses = pauses;
    tracer.pause_count = pause_count < MOST_PAUSES ? pause_count : MOST_PAUSES;
    ticker_start(&ticker);
    if (!await_begin(&tracer, outcome))
        goto stop_ticker;
    if ((rc = set_breakpoint(&tracer, point.address)) < 0)
        goto fail;
    for (;;) {
        int status;
        if ((rc = resume(&tracer, PTRACE_CONT, signal_number)) < 0 ||
            (rc = wait_victim(&tracer, &status)) < 0)
            goto fail;
        signal_number = 0;
        if (!WIFSTOPPED(status)) {
            outcome->ending = ENDING_DIED;
            outcome->wait_status = status;
            goto stop_ticker;
        }
        if ((rc = get_registers(&tracer, &registers)) < 0)
            goto fail;
        outcome->address = registers.rip;
        if (WSTOPSIG(status) != SIGTRAP) {
            signal_number = WSTOPSIG(status);
        } else if (registers.rip == (uint64_t)stepper_end_stop + 1) {
            break;
        } else {
            uint64_t sought = point.address;
            pause_at(&tracer, registers.rip, pause);
            if (is_reached(&point, registers.rip, &outcome->count)) {
                end_victim(&tracer, outcome, ENDING_KILLED, 0);
                goto stop_ticker;
            }
            if (point.address != sought && (rc = set_breakpoint(&tracer, point.address)) < 0)
                goto fail;
        }
    }
    if ((rc = set_breakpoint(&tracer, 0)) < 0 ||
        (rc = resume(&tracer, PTRACE_DETACH, take_deferred(&tracer))) < 0)
        goto fail;
    outcome->ending = ENDING_FINISHED;
    goto stop_ticker;
fail:
    end_victim(&tracer, outcome, rc == -ETIMEDOUT ? ENDING_HUNG : ENDING_ERROR, -rc);
stop_ticker:
    ticker_stop(&ticker);
}

/* Returns the state of the process in one letter, as /proc tells it, or 0. */
static char state_of(pid_t pid) {
    char path[32], text[256];
    const char *behind_name;
    ssize_t size;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    behind_name = strrchr(text, ')');
    return behind_name != NULL && behind_name[1] == ' ' ? behind_name[2] : 0;
}

/* Kills the victim once it sleeps in the kernel and goes on to, after that for
 * `further_us` microseconds. If it comes to its end before that it is detached
 * at stepper_end(). */
void stepper_kill_asleep(int pid, int64_t further_us, int64_t timeout_ms,
                         struct stepper_outcome *outcome) {
    struct tracer tracer = {pid, NULL, 0, NULL, 0, now_ns() + timeout_ms * 1000000, 0, 0, NULL, 0};
    const struct timespec between_looks = {0, 200000};
    const struct timespec further = {further_us / 1000000, further_us % 1000000 * 1000};
    struct user_regs_struct registers;
    int looks = 0; /* once could be a page fault or a lock of the kernel's */
    int rc;

    memset(outcome, 0, sizeof *outcome);
    if (!await_begin(&tracer, outcome))
        return;
    if ((rc = resume(&tracer, PTRACE_CONT, 0)) < 0)
        goto fail;
    while (looks < 3) {
        int status;
        pid_t stopped = waitpid(pid, &status, __WALL | WNOHANG);
        if (stopped < 0) {
            rc = -errno;
            goto fail;
        }
        if (stopped == 0) {
            if (now_ns() > tracer.deadline_ns) {
                rc = -ETIMEDOUT;
                goto fail;
            }
            looks = state_of(pid) == 'S' ? looks + 1 : 0;
            nanosleep(&between_looks, NULL);
            continue;
        }
        looks = 0;
        if (!WIFSTOPPED(status)) {
            outcome->ending = ENDING_DIED;
            outcome->wait_status = status;
            return;
        }
        if ((rc = get_registers(&tracer, &registers)) < 0)
            goto fail;
        if (WSTOPSIG(status) == SIGTRAP && registers.rip == (uint64_t)stepper_end_stop + 1) {
            if ((rc = resume(&tracer, PTRACE_DETACH, 0)) < 0)
                goto fail;
            outcome->ending = ENDING_FINISHED;
            return;
        }
        if ((rc = resume(&tracer, PTRACE_CONT, WSTOPSIG(status))) < 0)
            goto fail;
    }
    nanosleep(&further, NULL);
    outcome->count = 1;
    end_victim(&tracer, outcome, ENDING_KILLED, 0);
    return;
fail:
    end_victim(&tracer, outcome, rc == -ETIMEDOUT ? ENDING_HUNG : ENDING_ERROR, -rc);
}

#else
#error "the stepper knows the registers of x86-64 Linux only"
#endif
