/* check.h - what the C tests share: checks that name their line, test cases,
 * children whose exit is checked, a watchdog. Knows nothing of fastipc. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A whole binary; `timeout` in run_tests.sh is longer, so that this speaks first. */
#ifndef CHECK_WATCHDOG_S
#define CHECK_WATCHDOG_S 90
#endif

#define CHECK_UNUSED __attribute__((unused))

#if defined(__SANITIZE_ADDRESS__)
#define CHECK_SANITIZER "ASan"
#elif defined(__SANITIZE_THREAD__)
#define CHECK_SANITIZER "TSan"
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECK_SANITIZER "ASan"
#elif __has_feature(thread_sanitizer)
#define CHECK_SANITIZER "TSan"
#endif
#endif

/* The case that runs now, for messages. */
static const char *check_case = "(before the first test)";

#define CHECK_FAIL(...)                                                 \
    do {                                                                \
        fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, check_case); \
        fprintf(stderr, __VA_ARGS__);                                   \
        fputc('\n', stderr);                                            \
        exit(1);                                                        \
    } while (0)

#define CHECK(condition)                                \
    do {                                                \
        if (!(condition))                               \
            CHECK_FAIL("%s does not hold", #condition); \
    } while (0)

/* Two integers; negative ones are shown with their errno name. */
#define CHECK_EQ(got, expected)                                                             \
    do {                                                                                    \
        long long got_ = (long long)(got), expected_ = (long long)(expected);               \
        if (got_ != expected_)                                                              \
            CHECK_FAIL("%s is %lld%s, expected %lld%s", #got, got_, check_errno_text(got_), \
                       expected_, check_errno_text(expected_));                             \
    } while (0)

#define CHECK_STR(got, expected)                                                \
    do {                                                                        \
        const char *got_ = (got), *expected_ = (expected);                      \
        if (strcmp(got_, expected_) != 0)                                       \
            CHECK_FAIL("%s is \"%s\", expected \"%s\"", #got, got_, expected_); \
    } while (0)

/* For calls that set errno. */
#define CHECK_OK(call)                                    \
    do {                                                  \
        if ((call) < 0)                                   \
            CHECK_FAIL("%s: %s", #call, strerror(errno)); \
    } while (0)

/* Leaves the test case; the reason is shown by run_tests.sh. */
#define CHECK_SKIP(reason)                                   \
    do {                                                     \
        printf("  skipped: %s: %s\n", check_case, (reason)); \
        return;                                              \
    } while (0)

#define CHECK_RUN(test)     \
    do {                    \
        check_case = #test; \
        test();             \
        check_count++;      \
    } while (0)

static int check_count CHECK_UNUSED;

static CHECK_UNUSED const char *check_errno_text(long long value) {
    static _Thread_local char text[2][64];
    static _Thread_local int turn;
    char *at = text[turn ^= 1];

    at[0] = '\0';
    if (value < 0 && value > -4096)
        snprintf(at, sizeof(text[0]), " (%s)", strerror((int)-value));
    return at;
}

static void check_watchdog_fires(int signal_number) {
    static const char message[] = ": watchdog: the test did not end\n";

    (void)signal_number;
    if (write(2, check_case, strlen(check_case)) < 0 || write(2, message, sizeof(message) - 1) < 0)
        _exit(125);
    _exit(124);
}

/* Ends this process, loudly, should it still run in `seconds`. */
static CHECK_UNUSED void check_watchdog(unsigned seconds) {
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = check_watchdog_fires;
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

/* Runs body(argument) in a child, which is killed with this process. */
static CHECK_UNUSED pid_t check_fork(void (*body)(void *), void *argument) {
    pid_t parent = getpid();
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK_OK(pid);
    if (pid == 0) {
        check_watchdog(CHECK_WATCHDOG_S); /* fork() clears alarms */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(126);
        body(argument);
        fflush(NULL);
        _exit(0);
    }
    return pid;
}

static CHECK_UNUSED int check_wait_status(pid_t pid) {
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    return status;
}

/* The child must end by itself, with exit code 0. */
#define check_join(pid)                                                      \
    do {                                                                     \
        int status_ = check_wait_status(pid);                                \
        if (WIFSIGNALED(status_))                                            \
            CHECK_FAIL("the child died of signal %d", WTERMSIG(status_));    \
        if (WEXITSTATUS(status_) != 0)                                       \
            CHECK_FAIL("the child's exit code is %d", WEXITSTATUS(status_)); \
    } while (0)

/* The child must end by the signal. */
#define check_join_signal(pid, signal_number)                                                    \
    do {                                                                                         \
        int status_ = check_wait_status(pid);                                                    \
        if (!WIFSIGNALED(status_) || WTERMSIG(status_) != (signal_number))                       \
            CHECK_FAIL("the child's status is %#x, expected signal %d", status_, signal_number); \
    } while (0)

/* Runs body(argument) in a child and waits for it. */
#define check_in_child(body, argument) check_join(check_fork(body, argument))

static CHECK_UNUSED pthread_t check_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, body, argument), 0);
    return thread;
}

static CHECK_UNUSED void check_thread_join(pthread_t thread) {
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Handler that does nothing but interrupt. */
static volatile sig_atomic_t check_signals CHECK_UNUSED;

static CHECK_UNUSED void check_count_signal(int signal_number) {
    (void)signal_number;
    check_signals++;
}

static CHECK_UNUSED void check_handle_signal(int signal_number, int flags) {
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = check_count_signal;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    CHECK_OK(sigaction(signal_number, &action, NULL));
}

#define CHECK_BEGIN() check_watchdog(CHECK_WATCHDOG_S)
#define CHECK_END() (printf("  %d cases\n", check_count), 0)

#endif
