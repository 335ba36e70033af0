/* os_room.c - how much memory is left: MemAvailable and the limits of the memory
 * cgroup and its ancestors, v1 and v2. Asked before memory is taken, because past
 * a cgroup's limit the kernel answers with SIGKILL and not with an error. Takes no
 * memory and decides nothing; what cannot be read limits nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os_room.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "os.h"

/* What fipc_os_room() grants at most between two looks, and for how long. Only
 * while room is ample: a grant is not seen by the other processes that look. In
 * the time that it is kept, memory at 1 GB/s does not use up what is ample. */
#define GRANT_MAX (UINT64_C(1) << 20)
#define GRANT_KEPT_MS 50

static uint64_t grant_kept_ms = GRANT_KEPT_MS;

void fipc_os_room_keep(uint64_t kept_ms) { grant_kept_ms = kept_ms; }

/* Kept free of each limit, for what is charged beside our pages: page tables,
 * stacks, other members' faults between our look and our fallocate(2). */
#define MARGIN_MIN (UINT64_C(1) << 20)
#define MARGIN_MAX (UINT64_C(64) << 20)
#define MARGIN_PART 32

/* A process can be moved to another cgroup at any time; noticed after so long. */
#define CGROUP_KEPT_NS (1000 * FIPC_NS_PER_MS)

/* Cgroup paths are some 200 bytes at most; a longer one limits nothing. Small,
 * since this runs on the stack of any thread. */
#define PATH_BYTES 1024
#define LINE_BYTES 4096

/* v1 writes a huge number for "no limit", rounded to pages. */
#define NO_LIMIT (UINT64_C(1) << 62)

/* A cgroup hierarchy that may limit this process's memory. */
struct hierarchy {
    size_t mount_len;     /* dir[0, mount_len) is where it is mounted; 0: there is none */
    char dir[PATH_BYTES]; /* this process's cgroup in it */
};

struct cgroups {
    uint64_t membership; /* hash of /proc/self/cgroup */
    int64_t asked_ns;
    struct hierarchy v1, v2;
};

/* The names of the files, and of the lines in memory.stat that count descendants. */
struct names {
    const char *limit, *usage, *inactive_file, *active_file;
};

static const struct names v1_names = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_inactive_file", "total_active_file"};
static const struct names v2_names = {"memory.max", "memory.current", "inactive_file",
                                      "active_file"};

/* What a thread was told last; a name with a path in it has to lie somewhere. */
static _Thread_local char limit_name[512];

static int open_below(const char *root, const char *path) {
    char full[PATH_BYTES + 64];
    int length = snprintf(full, sizeof(full), "%s%s", root, path);

    if (length < 0 || (size_t)length >= sizeof(full))
        return -1;
    return open(full, O_RDONLY | O_CLOEXEC);
}

/* Reads a small file as a string; false when that fails. */
static bool read_text(int fd, char *text, size_t size) {
    size_t length = 0;
    ssize_t got;

    if (fd < 0)
        return false;
    do {
        got = read(fd, text + length, size - 1 - length);
        if (got > 0)
            length += (size_t)got;
    } while (length < size - 1 && (got > 0 || (got < 0 && errno == EINTR)));
    close(fd);
    text[length] = '\0';
    return length > 0;
}

/* The lines of a file that may be long; a line over LINE_BYTES is left out. */
struct lines {
    int fd;
    size_t from, to;
    char text[LINE_BYTES];
};

static char *next_line(struct lines *lines) {
    bool skipping = false;

    for (;;) {
        char *start = lines->text + lines->from;
        char *end = memchr(start, '\n', lines->to - lines->from);
        ssize_t got;

        if (end != NULL) {
            *end = '\0';
            lines->from = (size_t)(end + 1 - lines->text);
            if (!skipping)
                return start;
            skipping = false;
            continue;
        }
        memmove(lines->text, start, lines->to - lines->from);
        lines->to -= lines->from;
        lines->from = 0;
        if (lines->to == sizeof(lines->text)) {
            skipping = true;
            lines->to = 0;
        }
        got = read(lines->fd, lines->text + lines->to, sizeof(lines->text) - lines->to);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return NULL;
        lines->to += (size_t)got;
    }
}

/* Splits *rest at the next `separator` and returns what stood before it. */
static char *cut(char **rest, char separator) {
    char *word = *rest;
    char *end = word != NULL ? strchr(word, separator) : NULL;

    if (end != NULL)
        *end++ = '\0';
    *rest = end;
    return word;
}

static bool list_has(const char *list, const char *word) {
    size_t length = strlen(word);

    while (list != NULL) {
        if (strncmp(list, word, length) == 0 && (list[length] == ',' || list[length] == '\0'))
            return true;
        list = strchr(list, ',');
        if (list != NULL)
            list++;
    }
    return false;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text) {
    char *to = text;

    while (*text != '\0') {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
            text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
            *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 4;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
}

/* This process's paths in the v1 memory hierarchy and in the v2 one ("": none),
 * and a hash of the whole file. */
static uint64_t read_membership(const char *root, struct lines *lines, char *v1_path,
                                char *v2_path) {
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    char *line;

    v1_path[0] = v2_path[0] = '\0';
    lines->from = lines->to = 0;
    lines->fd = open_below(root, "/proc/self/cgroup");
    if (lines->fd < 0)
        return 0;
    while ((line = next_line(lines)) != NULL) {
        char *controllers, *number, *path = NULL;

        for (const char *c = line; *c != '\0'; c++)
            hash = (hash ^ (unsigned char)*c) * UINT64_C(1099511628211);
        number = cut(&line, ':');
        controllers = cut(&line, ':');
        if (controllers == NULL || line == NULL || strlen(line) >= PATH_BYTES)
            continue;
        if (strcmp(number, "0") == 0 && controllers[0] == '\0')
            path = v2_path;
        else if (list_has(controllers, "memory"))
            path = v1_path;
        if (path != NULL)
            strcpy(path, line);
    }
    close(lines->fd);
    return hash;
}

/* The part of `path` below `mount_root`, or NULL when it does not lie there. */
static const char *path_below(const char *path, const char *mount_root) {
    size_t length = strlen(mount_root);

    if (length == 1)
        return path;
    if (strncmp(path, mount_root, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    return path + length;
}

/* Takes a mount of the hierarchy into account. Of several the one with the
 * shortest root shows the most ancestors; one that our path does not lie under
 * (another namespace's) is at least an ancestor's, and better than none. */
static void consider_mount(struct hierarchy *hierarchy, size_t *best, const char *path,
                           const char *mount_root, const char *mount_point) {
    const char *below;
    size_t rank;
    int length;

    /* "/..": we are outside of our own cgroup namespace, where nothing is seen. */
    if (path[0] != '/' || strncmp(path, "/..", 3) == 0)
        return;
    below = path_below(path, mount_root);
    rank = below != NULL ? strlen(mount_root) : PATH_BYTES;
    if (hierarchy->mount_len > 0 && rank >= *best)
        return;
    if (below == NULL || strcmp(below, "/") == 0)
        below = "";
    length = snprintf(hierarchy->dir, sizeof(hierarchy->dir), "%s%s", mount_point, below);
    if (length <= 0 || (size_t)length >= sizeof(hierarchy->dir)) {
        hierarchy->mount_len = 0;
        return;
    }
    hierarchy->mount_len = strlen(mount_point);
    *best = rank;
}

/* id parent major:minor ROOT POINT options [optional...] - TYPE source OPTIONS */
static void read_mounts(const char *root, struct lines *lines, struct cgroups *cgroups,
                        const char *v1_path, const char *v2_path) {
    size_t v1_best = 0, v2_best = 0;
    char *line;

    cgroups->v1.mount_len = cgroups->v2.mount_len = 0;
    lines->from = lines->to = 0;
    lines->fd = open_below(root, "/proc/self/mountinfo");
    if (lines->fd < 0)
        return;
    while ((line = next_line(lines)) != NULL) {
        char *mount_root, *mount_point, *type, *super;

        super = strstr(line, " - cgroup");
        if (super == NULL)
            continue;
        *super = '\0';
        super += strlen(" - ");
        type = cut(&super, ' ');
        (void)cut(&super, ' ');
        (void)cut(&line, ' ');
        (void)cut(&line, ' ');
        (void)cut(&line, ' ');
        mount_root = cut(&line, ' ');
        mount_point = cut(&line, ' ');
        if (mount_root == NULL || mount_point == NULL || super == NULL)
            continue;
        unescape(mount_root);
        unescape(mount_point);
        if (strcmp(type, "cgroup2") == 0)
            consider_mount(&cgroups->v2, &v2_best, v2_path, mount_root, mount_point);
        else if (strcmp(type, "cgroup") == 0 && list_has(super, "memory"))
            consider_mount(&cgroups->v1, &v1_best, v1_path, mount_root, mount_point);
    }
    close(lines->fd);
}

/* Brings *cgroups up to date; one that was never filled has membership 0. */
static void find_cgroups(const char *root, struct cgroups *cgroups) {
    struct lines lines;
    char v1_path[PATH_BYTES], v2_path[PATH_BYTES];
    uint64_t membership = read_membership(root, &lines, v1_path, v2_path);

    if (membership != cgroups->membership || membership == 0) {
        read_mounts(root, &lines, cgroups, v1_path, v2_path);
        cgroups->membership = membership;
    }
}

static uint64_t margin_of(uint64_t limit) {
    uint64_t margin = limit / MARGIN_PART;

    return margin < MARGIN_MIN ? MARGIN_MIN : margin > MARGIN_MAX ? MARGIN_MAX : margin;
}

/* The number behind "NAME " at the start of a line; 0 when there is none. */
static uint64_t number_of_line(const char *text, const char *name) {
    size_t length = strlen(name);

    while (text != NULL) {
        if (strncmp(text, name, length) == 0 && (text[length] == ' ' || text[length] == ':'))
            return strtoull(text + length + 1, NULL, 10);
        text = strchr(text, '\n');
        if (text != NULL)
            text++;
    }
    return 0;
}

/* File `name` of the directory dir[0, dir_len); false when it cannot be read. */
static bool read_file_of(const char *root, const char *dir, size_t dir_len, const char *name,
                         char *text, size_t size) {
    char path[PATH_BYTES + 32];
    int length = snprintf(path, sizeof(path), "%.*s/%s", (int)dir_len, dir, name);

    return length > 0 && (size_t)length < sizeof(path) &&
           read_text(open_below(root, path), text, size);
}

static bool read_number_of(const char *root, const char *dir, size_t dir_len, const char *name,
                           uint64_t *number) {
    char text[32], *end;

    if (!read_file_of(root, dir, dir_len, name, text, sizeof(text)))
        return false;
    *number = strtoull(text, &end, 10);
    return end != text; /* v2 writes "max" for no limit */
}

/* Page cache that the kernel gives up before it kills: what is not in use at
 * once, and half of what was used twice. Memory files are not in these counts. */
static uint64_t reclaimable(const char *root, const char *dir, size_t dir_len,
                            const struct names *names) {
    char text[LINE_BYTES];

    if (!read_file_of(root, dir, dir_len, "memory.stat", text, sizeof(text)))
        return 0;
    return number_of_line(text, names->inactive_file) +
           number_of_line(text, names->active_file) / 2;
}

/* 0, or -ENOMEM; lowers *spare to what one cgroup would have left. */
static int ask_level(const char *root, const char *dir, size_t dir_len, const struct names *names,
                     uint64_t size, uint64_t *spare) {
    uint64_t limit, usage, left, needed;

    if (!read_number_of(root, dir, dir_len, names->limit, &limit) || limit >= NO_LIMIT ||
        !read_number_of(root, dir, dir_len, names->usage, &usage))
        return 0;
    left = limit > usage ? limit - usage : 0;
    needed = size + margin_of(limit);
    /* memory.stat is the dearest of the three files; asked when it matters. */
    if (left < needed + FIPC_ROOM_AMPLE)
        left += reclaimable(root, dir, dir_len, names);
    if (left < needed)
        return -ENOMEM;
    if (left - needed < *spare)
        *spare = left - needed;
    return 0;
}

static int ask_hierarchy(const char *root, const struct hierarchy *hierarchy,
                         const struct names *names, uint64_t size, uint64_t *spare,
                         const char **limit) {
    const char *dir = hierarchy->dir;
    size_t length = hierarchy->mount_len > 0 ? strlen(dir) : 0;

    while (length > 0) {
        if (ask_level(root, dir, length, names, size, spare) < 0) {
            snprintf(limit_name, sizeof(limit_name), "the memory cgroup's limit (%s of %.*s)",
                     names->limit, (int)length, dir);
            *limit = limit_name;
            return -ENOMEM;
        }
        if (length <= hierarchy->mount_len)
            break;
        while (length > hierarchy->mount_len && dir[length - 1] != '/')
            length--;
        /* Drop the slash, too, where one parts the mount point from the rest. */
        if (length > hierarchy->mount_len)
            length--;
    }
    return 0;
}

static int ask_system(const char *root, uint64_t size, uint64_t *spare, const char **limit) {
    char text[512];
    uint64_t total, available, needed;

    if (!read_text(open_below(root, "/proc/meminfo"), text, sizeof(text)) ||
        strstr(text, "MemAvailable:") == NULL)
        return 0;
    total = number_of_line(text, "MemTotal") * 1024;
    available = number_of_line(text, "MemAvailable") * 1024;
    needed = size + margin_of(total);
    if (available < needed) {
        *limit = "MemAvailable";
        return -ENOMEM;
    }
    if (available - needed < *spare)
        *spare = available - needed;
    return 0;
}

static int ask_all(const char *root, const struct cgroups *cgroups, uint64_t size, uint64_t *spare,
                   const char **limit) {
    int rc;

    *spare = FIPC_ROOM_AMPLE;
    if (size > NO_LIMIT) /* keeps the sums below from overflowing */
        size = NO_LIMIT;
    rc = ask_system(root, size, spare, limit);
    if (rc == 0)
        rc = ask_hierarchy(root, &cgroups->v2, &v2_names, size, spare, limit);
    if (rc == 0)
        rc = ask_hierarchy(root, &cgroups->v1, &v1_names, size, spare, limit);
    return rc;
}

int fipc_os_room_below(const char *root, uint64_t size, uint64_t *spare_bytes, const char **limit) {
    struct cgroups cgroups;
    uint64_t spare;
    int rc;

    cgroups.membership = 0;
    find_cgroups(root, &cgroups);
    rc = ask_all(root, &cgroups, size, &spare, limit);
    if (rc == 0)
        *spare_bytes = spare;
    return rc;
}

/* Behind the caller's word on the fork token's page, in a cache line of its own:
 * both read 0 in a forked child, which may be in another cgroup and must neither
 * inherit a grant nor wait for a thread that it does not have. */
#define WORD_GRANT 8 /* GRANT() */
#define WORD_CACHE 9 /* CACHE_* */

/* Until when (coarse clock) how many bytes may be taken without a look. */
#define GRANT_BITS 24
#define GRANT(until_ms, bytes) ((uint64_t)(until_ms) << GRANT_BITS | (bytes))
#define GRANT_UNTIL_MS(word) ((word) >> GRANT_BITS)
#define GRANT_BYTES(word) ((word) & ((UINT64_C(1) << GRANT_BITS) - 1))

#define CACHE_EMPTY 0
#define CACHE_BUSY 1
#define CACHE_FILLED 2

static int ask_remembering(uint64_t *cache_state, uint64_t size, uint64_t *spare,
                           const char **limit) {
    static struct cgroups cache;
    uint64_t state = fipc_load_relaxed(cache_state);
    int64_t now_ns = fipc_os_coarse_now_ns();
    int rc;

    /* Nobody waits for the cache: who finds it busy (another thread, or the same
     * one below a signal handler) finds the cgroups anew. Q2, pairs with Q1
     * below: the last owner's writes are visible. */
    if (state == CACHE_BUSY || !fipc_cas64_seqcst(Q2, cache_state, state, CACHE_BUSY))
        return fipc_os_room_below("", size, spare, limit);
    if (state == CACHE_EMPTY)
        cache.membership = 0;
    if (state == CACHE_EMPTY || now_ns - cache.asked_ns >= CGROUP_KEPT_NS) {
        find_cgroups("", &cache);
        cache.asked_ns = now_ns;
    }
    rc = ask_all("", &cache, size, spare, limit);
    fipc_store_release(Q1, cache_state, CACHE_FILLED);
    return rc;
}

int fipc_os_room_spare(uint64_t size, uint64_t *spare_bytes, const char **limit) {
    uint64_t *page = fipc_os_fork_token();
    uint64_t now_ms = (uint64_t)(fipc_os_coarse_now_ns() / FIPC_NS_PER_MS);
    uint64_t spare, grant;
    int rc;

    if (page == NULL)
        return fipc_os_room_below("", size, spare_bytes, limit);
    /* Relaxed loads and stores: the grant is a number and guards no data. */
    grant = fipc_load_relaxed(&page[WORD_GRANT]);
    while (GRANT_UNTIL_MS(grant) > now_ms && GRANT_BYTES(grant) >= size) {
        if (fipc_cas64_relaxed(&page[WORD_GRANT], grant, grant - size)) {
            *spare_bytes = FIPC_ROOM_AMPLE;
            return 0;
        }
        grant = fipc_load_relaxed(&page[WORD_GRANT]);
    }
    rc = ask_remembering(&page[WORD_CACHE], size, &spare, limit);
    if (rc == 0 && spare >= FIPC_ROOM_AMPLE)
        grant = GRANT(now_ms + grant_kept_ms, GRANT_MAX);
    else
        grant = 0;
    fipc_store_relaxed(&page[WORD_GRANT], grant);
    if (rc == 0)
        *spare_bytes = spare;
    return rc;
}

int fipc_os_room(uint64_t size, const char **limit) {
    uint64_t spare;

    return fipc_os_room_spare(size, &spare, limit);
}
