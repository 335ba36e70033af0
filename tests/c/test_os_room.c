/* test_os_room.c - how much memory is left: made-up systems below a directory, then
 * this one, with a memory cgroup of our own where that is allowed. */
#define _GNU_SOURCE
#include "os_room.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "atomics.h"
#include "check.h"
#include "os.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n"
#define OTHER_MOUNTS                                          \
    "22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n" \
    "23 22 0:21 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"

static const char *limit;

static char root[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void end_system(void) {
    if (root[0] != '\0')
        (void)nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    root[0] = '\0';
}

/* Writes a file below the root, and the directories on its way. */
__attribute__((format(printf, 2, 3))) static void put(const char *path, const char *format, ...) {
    char full[PATH_MAX];
    va_list arguments;
    FILE *file;

    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = strchr(full + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(full, 0700) < 0)
            CHECK_EQ(errno, EEXIST);
        *slash = '/';
    }
    file = fopen(full, "we");
    CHECK(file != NULL);
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    CHECK_EQ(fclose(file), 0);
}

static void put_number(const char *directory, const char *name, uint64_t number) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    put(path, "%llu\n", (unsigned long long)number);
}

/* A machine of 64 GiB with 32 GiB to spare, and these mounts and memberships. */
static void begin_system(const char *mountinfo, const char *membership) {
    end_system();
    strcpy(root, "/tmp/fipc-test-room-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    put("/proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1000000 kB\n"
                         "MemAvailable:   33554432 kB\nBuffers:  1 kB\n");
    put("/proc/self/mountinfo", OTHER_MOUNTS "%s", mountinfo);
    put("/proc/self/cgroup", "%s", membership);
}

static void put_v2(const char *directory, const char *max, uint64_t current) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/memory.max", directory);
    put(path, "%s\n", max);
    put_number(directory, "memory.current", current);
}

static void put_v1(const char *directory, uint64_t limit_bytes, uint64_t usage) {
    put_number(directory, "memory.limit_in_bytes", limit_bytes);
    put_number(directory, "memory.usage_in_bytes", usage);
}

/* Is there room for as much, and nothing the matter with a bit less? */
static void check_room(uint64_t size) {
    uint64_t spare = 0;

    limit = "none";
    if (fipc_os_room_below(root, size, &spare, &limit) != 0)
        CHECK_FAIL("no room for %llu MiB: %s", (unsigned long long)(size / MIB), limit);
}

#define check_no_room(size, named)                                          \
    do {                                                                    \
        uint64_t spare_ = 4711;                                             \
        limit = "none";                                                     \
        CHECK_EQ(fipc_os_room_below(root, size, &spare_, &limit), -ENOMEM); \
        CHECK_STR(limit, named);                                            \
        CHECK_EQ(spare_, 4711);                                             \
    } while (0)

static void available_memory_is_a_limit(void) {
    begin_system("", "");
    check_room(30 * 1024 * MIB);
    check_no_room(33 * 1024 * MIB, "MemAvailable");
    check_no_room(UINT64_MAX, "MemAvailable");
    /* Some of it is left to the others. */
    check_no_room(32 * 1024 * MIB, "MemAvailable");
}

static void what_cannot_be_read_limits_nothing(void) {
    uint64_t spare;

    end_system();
    CHECK_EQ(fipc_os_room_below("/nonexistent", UINT64_MAX, &spare, &limit), 0);
    begin_system(V2_MOUNT, "0::/app\n");
    put("/proc/meminfo", "MemTotal: 100 kB\n");
    check_room(1024 * MIB);
    put("/proc/meminfo", "%s", "");
    put("/sys/fs/cgroup/app/memory.max", "%s", "");
    put("/sys/fs/cgroup/app/memory.current", "?\n");
    check_room(1024 * MIB);
    put("/sys/fs/cgroup/app/memory.max", "1048576\n");
    check_room(1024 * MIB);
    put("/proc/self/cgroup", "0:\nmemory\n::\n\n");
    put("/proc/self/mountinfo", " - cgroup\n - cgroup2 \n1 2 3 - cgroup2 x y\n");
    check_room(1024 * MIB);
}

static void a_v2_cgroup_limits_its_process(void) {
    begin_system(V2_MOUNT, "0::/user.slice/app.scope\n");
    put_v2("/sys/fs/cgroup/user.slice/app.scope", "104857600", 60 * MIB);
    put_v2("/sys/fs/cgroup/user.slice", "max", 70 * MIB);
    check_room(36 * MIB);
    check_no_room(41 * MIB, "the memory cgroup's limit (memory.max of "
                            "/sys/fs/cgroup/user.slice/app.scope)");
}

static void a_v2_ancestors_limit_counts_with_its_own_usage(void) {
    begin_system(V2_MOUNT, "0::/a/b/c\n");
    put_v2("/sys/fs/cgroup/a/b/c", "max", MIB);
    put_v2("/sys/fs/cgroup/a/b", "1073741824", MIB);
    put_v2("/sys/fs/cgroup/a", "104857600", 90 * MIB);
    check_room(4 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
}

static void a_cgroup_namespaces_root_has_a_limit(void) {
    begin_system(V2_MOUNT, "0::/\n");
    put_v2("/sys/fs/cgroup", "104857600", 90 * MIB);
    check_room(4 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup)");
}

static void a_usage_above_the_limit_leaves_nothing(void) {
    begin_system(V2_MOUNT, "0::/a\n");
    put_v2("/sys/fs/cgroup/a", "104857600", 200 * MIB);
    check_no_room(1, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
    put_v2("/sys/fs/cgroup/a", "0", 0);
    check_no_room(1, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
}

static void page_cache_that_can_be_given_up_is_room(void) {
    begin_system(V2_MOUNT, "0::/a\n");
    put_v2("/sys/fs/cgroup/a", "104857600", 95 * MIB);
    check_no_room(10 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
    put("/sys/fs/cgroup/a/memory.stat", "anon 1\nfile 2\nactive_file 20971520\n"
                                        "inactive_file 31457280\nslab 3\n");
    check_room(40 * MIB);
    check_no_room(46 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
    put("/sys/fs/cgroup/a/memory.stat", "anon 1\nnot_inactive_file 31457280\n");
    check_no_room(10 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
}

static void a_v1_cgroup_and_its_ancestors_limit(void) {
    begin_system("33 23 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                 "34 23 0:31 / /sys/fs/cgroup/memory rw shared:15 - cgroup cgroup rw,memory\n",
                 "5:memory:/pods/one\n4:cpu,cpuacct:/elsewhere\n1:name=systemd:/x:y\n");
    put_v1("/sys/fs/cgroup/memory/pods/one", 100 * MIB, 50 * MIB);
    put_v1("/sys/fs/cgroup/memory/pods", 9223372036854771712U, 50 * MIB);
    put_v1("/sys/fs/cgroup/memory", 9223372036854771712U, 50 * MIB);
    put("/sys/fs/cgroup/memory/pods/one/memory.stat",
        "inactive_file 1\ntotal_inactive_file 10485760\ntotal_active_file 0\n");
    check_room(56 * MIB);
    check_no_room(61 * MIB, "the memory cgroup's limit (memory.limit_in_bytes of "
                            "/sys/fs/cgroup/memory/pods/one)");
    put_v1("/sys/fs/cgroup/memory/pods", 90 * MIB, 80 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.limit_in_bytes of "
                            "/sys/fs/cgroup/memory/pods)");
}

static void a_container_without_a_cgroup_namespace_sees_its_limit(void) {
    /* The mount shows the container's cgroup; /proc/self/cgroup the host's path. */
    begin_system("34 23 0:31 /docker/4f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
                 "5:memory:/docker/4f/inner\n0::/docker/4f\n");
    put_v1("/sys/fs/cgroup/memory/inner", 200 * MIB, 0);
    put_v1("/sys/fs/cgroup/memory", 100 * MIB, 90 * MIB);
    check_room(4 * MIB);
    check_no_room(11 * MIB,
                  "the memory cgroup's limit (memory.limit_in_bytes of /sys/fs/cgroup/memory)");
    /* A sibling's name that begins like ours is not ours. */
    put("/proc/self/cgroup", "5:memory:/docker/4fa/inner\n");
    put_v1("/sys/fs/cgroup/memorya/inner", MIB, MIB);
    check_room(4 * MIB);
}

static void of_two_mounts_the_one_with_more_ancestors_counts(void) {
    begin_system("34 23 0:31 /a/b /mnt/part rw - cgroup2 cgroup rw\n"
                 "35 23 0:31 /other /mnt/other rw - cgroup2 cgroup rw\n" V2_MOUNT,
                 "0::/a/b\n");
    put_v2("/mnt/part", "max", 0);
    put_v2("/mnt/other", "1", 1);
    put_v2("/sys/fs/cgroup/a/b", "max", 0);
    put_v2("/sys/fs/cgroup/a", "104857600", 90 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
    check_room(4 * MIB);
}

static void both_hierarchies_limit_where_both_are_mounted(void) {
    begin_system("34 23 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                 "35 23 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                 "4:memory:/one\n0::/two\n");
    put("/sys/fs/cgroup/unified/two/cgroup.procs", "1\n");
    put_v1("/sys/fs/cgroup/memory/one", 100 * MIB, 90 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.limit_in_bytes of "
                            "/sys/fs/cgroup/memory/one)");
    put_v1("/sys/fs/cgroup/memory/one", 1000 * MIB, 90 * MIB);
    put_v2("/sys/fs/cgroup/unified/two", "104857600", 90 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/unified/two)");
}

static void a_process_outside_of_its_cgroup_namespace_has_no_known_limit(void) {
    begin_system(V2_MOUNT, "0::/../elsewhere\n");
    put_v2("/sys/fs/cgroup", "104857600", 90 * MIB);
    put_v2("/sys/fs/elsewhere", "104857600", 90 * MIB);
    check_room(20 * MIB);
}

static void a_mount_point_with_a_space_is_found(void) {
    begin_system("30 23 0:26 / /mnt/c\\040g\\134x rw - cgroup2 cgroup rw\n", "0::/a\n");
    put_v2("/mnt/c g\\x/a", "104857600", 90 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /mnt/c g\\x/a)");
}

static void long_and_many_lines_hide_nothing(void) {
    char mounts[3 * 65536] = "", long_option[10000];
    size_t length = 0;

    memset(long_option, 'o', sizeof(long_option) - 1);
    long_option[sizeof(long_option) - 1] = '\0';
    for (int i = 0; i < 500; i++) {
        /* Lengths of all sorts, so that a line ends at each place of the buffer. */
        length += (size_t)snprintf(mounts + length, sizeof(mounts) - length,
                                   "%d 1 0:1 / /mnt/%d rw - overlay overlay rw,x=%.*s\n", 100 + i,
                                   i, i, long_option);
    }
    length +=
        (size_t)snprintf(mounts + length, sizeof(mounts) - length,
                         "99 1 0:1 / /mnt/long rw - overlay overlay rw,%s\n" V2_MOUNT, long_option);
    CHECK(length < sizeof(mounts));
    begin_system(mounts, "0::/a\n");
    put_v2("/sys/fs/cgroup/a", "104857600", 90 * MIB);
    check_no_room(11 * MIB, "the memory cgroup's limit (memory.max of /sys/fs/cgroup/a)");
}

static void paths_too_long_limit_nothing_and_break_nothing(void) {
    char membership[6000];

    memset(membership, '/', sizeof(membership));
    memcpy(membership, "0::/", 4);
    membership[sizeof(membership) - 1] = '\0';
    begin_system(V2_MOUNT, membership);
    check_room(MIB);
    for (size_t length = 1000; length < 1040; length++) {
        char line[1100] = "0::/";

        memset(line + 4, 'a', length);
        line[4 + length] = '\0';
        put("/proc/self/cgroup", "%s\n", line);
        check_room(MIB);
    }
}

static void *ask_often(void *barrier) {
    pthread_barrier_wait(barrier);
    for (int i = 0; i < 200; i++) {
        const char *named = "none";

        CHECK_EQ(fipc_os_room(300 * KIB, &named), 0);
        CHECK_EQ(fipc_os_room(UINT64_C(1) << 50, &named), -ENOMEM);
        CHECK(strcmp(named, "none") != 0);
    }
    return NULL;
}

static void threads_ask_together(void) {
    pthread_barrier_t barrier;
    pthread_t threads[4];

    end_system();
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, 4), 0);
    for (int i = 0; i < 4; i++)
        threads[i] = check_thread(ask_often, &barrier);
    for (int i = 0; i < 4; i++)
        check_thread_join(threads[i]);
    pthread_barrier_destroy(&barrier);
}

/* A memory cgroup below our own, so that what limits us limits it. */
static char group[PATH_MAX];
static bool group_is_v1;

static bool write_file(const char *name, const char *text) {
    char path[PATH_MAX + 32];
    int fd;
    bool written;

    snprintf(path, sizeof(path), "%s/%s", group, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

/* Where this process's memory cgroup is, if it lies at one of the usual places. */
static bool find_own_group(void) {
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX];
    bool found = false;

    while (file != NULL && !found && fgets(line, sizeof(line), file)) {
        char *path = strrchr(line, ':');

        line[strcspn(line, "\n")] = '\0';
        if (path == NULL)
            break;
        group_is_v1 = strstr(line, ":memory:") != NULL;
        if (!group_is_v1 && strncmp(line, "0::", 3) != 0)
            continue;
        snprintf(group, sizeof(group), "/sys/fs/cgroup%s%s/fipc-test-%d",
                 group_is_v1 ? "/memory" : "", strcmp(path + 1, "/") == 0 ? "" : path + 1,
                 (int)getpid());
        found = mkdir(group, 0755) == 0;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

static void remove_group(void) {
    /* The kernel lets go of a dead member some time after wait(2) does. */
    while (rmdir(group) < 0) {
        CHECK_EQ(errno, EBUSY);
        usleep(1000);
    }
}

static bool make_group(const char *limit_bytes) {
    if (!find_own_group())
        return false;
    if (write_file(group_is_v1 ? "memory.limit_in_bytes" : "memory.max", limit_bytes))
        return true;
    remove_group();
    return false;
}

#define NO_GROUP "no memory cgroup can be made here (that needs root and a writable hierarchy)"

static void enter_group(void) { CHECK(write_file("cgroup.procs", "0")); }

/* What the cgroup holds before memory is taken from it. */
enum ballast { NOTHING, READ_ONCE, READ_OFTEN };

static void read_file_of_our_own(int times) {
    char path[] = "/var/tmp/fipc-test-cache-XXXXXX", bytes[65536];
    int fd = mkstemp(path);

    CHECK_OK(fd);
    CHECK_OK(unlink(path));
    memset(bytes, 1, sizeof(bytes));
    for (uint64_t size = 0; size < 40 * MIB; size += sizeof(bytes))
        CHECK_EQ(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    for (int i = 0; i < times; i++) {
        CHECK_OK(fsync(fd));
        CHECK_OK(lseek(fd, 0, SEEK_SET));
        while (read(fd, bytes, sizeof(bytes)) > 0)
            continue;
    }
    /* Left open, so that its pages stay. */
}

static void fill_the_group(void *ballast) {
    int fd;
    uint64_t taken = 0;
    int rc;

    enter_group();
    if (*(enum ballast *)ballast != NOTHING)
        read_file_of_our_own(*(enum ballast *)ballast == READ_ONCE ? 1 : 3);
    fd = fipc_os_memfd_create("fastipc:test", 0);
    CHECK_OK(fd);
    limit = "none";
    for (;;) {
        uint64_t step = 64 * KIB << (taken / MIB % 4);

        rc = fipc_os_reserve(fd, taken, step, &limit);
        if (rc < 0)
            break;
        taken += step;
        CHECK(taken <= 64 * MIB);
    }
    CHECK_EQ(rc, -ENOMEM);
    CHECK(strstr(limit, "the memory cgroup's limit (memory.") == limit);
    CHECK(strstr(limit, group) != NULL);
    /* Most of the limit was of use. */
    if (getenv("CHECK_VERBOSE"))
        printf("    %llu KiB of 64 MiB taken\n", (unsigned long long)(taken / KIB));
    CHECK(taken >= 40 * MIB);
}

static void fill(enum ballast ballast) {
    pid_t pid;
    int status;

    if (!make_group("67108864"))
        CHECK_SKIP(NO_GROUP);
    pid = check_fork(fill_the_group, &ballast);
    status = check_wait_status(pid);
    remove_group();
    CHECK(!WIFSIGNALED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

static void a_full_cgroup_is_an_error_and_not_a_kill(void) { fill(NOTHING); }

static void a_cgroup_full_of_page_cache_has_room(void) { fill(READ_ONCE); }

static void a_cgroup_full_of_page_cache_in_use_has_room(void) { fill(READ_OFTEN); }

#define COMPETITORS 6

/* Takes memory in pieces until refused; each competitor in other ones. */
static void compete(void *argument) {
    static const uint64_t sizes[] = {16 * KIB, 128 * KIB, MIB, 3 * MIB};
    uint64_t taken = 0, size;
    int number = *(int *)argument, rc;
    int fd = fipc_os_memfd_create("fastipc:test", 0);

    CHECK_OK(fd);
    enter_group();
    do {
        size = sizes[number++ % 4];
        rc = fipc_os_reserve(fd, taken, size, &limit);
        taken += size;
    } while (rc == 0);
    CHECK_EQ(rc, -ENOMEM);
}

static void processes_that_fill_a_cgroup_together_are_refused_and_not_killed(void) {
    pid_t pids[COMPETITORS];
    int numbers[COMPETITORS], status[COMPETITORS];

    if (!make_group("67108864"))
        CHECK_SKIP(NO_GROUP);
    for (int i = 0; i < COMPETITORS; i++) {
        numbers[i] = i;
        pids[i] = check_fork(compete, &numbers[i]);
    }
    for (int i = 0; i < COMPETITORS; i++)
        status[i] = check_wait_status(pids[i]);
    remove_group();
    for (int i = 0; i < COMPETITORS; i++)
        CHECK_EQ(status[i], 0);
}

static void be_moved_after_a_first_look(void *unused) {
    (void)unused;
    limit = "none";
    CHECK_EQ(fipc_os_room(80 * MIB, &limit), 0);
    enter_group();
    /* Noticed within about a second; the watchdog says when not. */
    while (fipc_os_room(80 * MIB, &limit) == 0)
        usleep(20000);
    CHECK(strstr(limit, group) != NULL);
}

static void a_move_to_another_cgroup_is_noticed(void) {
    pid_t pid;
    int status;

    if (!make_group("67108864"))
        CHECK_SKIP(NO_GROUP);
    pid = check_fork(be_moved_after_a_first_look, NULL);
    status = check_wait_status(pid);
    remove_group();
    CHECK_EQ(status, 0);
}

static void look_at_once(void *unused) {
    (void)unused;
    limit = "none";
    CHECK_EQ(fipc_os_room(80 * MIB, &limit), -ENOMEM);
    CHECK(strstr(limit, group) != NULL);
}

static void fork_in_the_group(void *unused) {
    (void)unused;
    CHECK_EQ(fipc_os_room(80 * MIB, &limit), 0);
    enter_group();
    check_in_child(look_at_once, NULL);
}

static void a_forked_child_looks_anew(void) {
    pid_t pid;
    int status;

    if (!make_group("67108864"))
        CHECK_SKIP(NO_GROUP);
    pid = check_fork(fork_in_the_group, NULL);
    status = check_wait_status(pid);
    remove_group();
    CHECK_EQ(status, 0);
}

/* Also after a check that failed. */
static pid_t main_pid;

static void clean_up(void) {
    if (getpid() != main_pid)
        return;
    end_system();
    if (group[0] != '\0')
        (void)rmdir(group);
}

int main(void) {
    CHECK_BEGIN();
    main_pid = getpid();
    CHECK_EQ(atexit(clean_up), 0);
    CHECK_RUN(available_memory_is_a_limit);
    CHECK_RUN(what_cannot_be_read_limits_nothing);
    CHECK_RUN(a_v2_cgroup_limits_its_process);
    CHECK_RUN(a_v2_ancestors_limit_counts_with_its_own_usage);
    CHECK_RUN(a_cgroup_namespaces_root_has_a_limit);
    CHECK_RUN(a_usage_above_the_limit_leaves_nothing);
    CHECK_RUN(page_cache_that_can_be_given_up_is_room);
    CHECK_RUN(a_v1_cgroup_and_its_ancestors_limit);
    CHECK_RUN(a_container_without_a_cgroup_namespace_sees_its_limit);
    CHECK_RUN(of_two_mounts_the_one_with_more_ancestors_counts);
    CHECK_RUN(both_hierarchies_limit_where_both_are_mounted);
    CHECK_RUN(a_process_outside_of_its_cgroup_namespace_has_no_known_limit);
    CHECK_RUN(a_mount_point_with_a_space_is_found);
    CHECK_RUN(long_and_many_lines_hide_nothing);
    CHECK_RUN(paths_too_long_limit_nothing_and_break_nothing);
    end_system();
    CHECK_RUN(threads_ask_together);
    CHECK_RUN(a_full_cgroup_is_an_error_and_not_a_kill);
    CHECK_RUN(a_cgroup_full_of_page_cache_has_room);
    CHECK_RUN(a_cgroup_full_of_page_cache_in_use_has_room);
    CHECK_RUN(processes_that_fill_a_cgroup_together_are_refused_and_not_killed);
    CHECK_RUN(a_move_to_another_cgroup_is_noticed);
    CHECK_RUN(a_forked_child_looks_anew);
    return CHECK_END();
}
