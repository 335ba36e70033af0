/* segment.c - see segment.h. */
#define _GNU_SOURCE
#include "segment.h"

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "slots.h"

static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
/* How often this thread holds it: a sweep under it may have to map a chunk. Not a
 * recursive mutex, since a forked child may not unlock that. */
static __thread int process_depth;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;
static uint64_t process_epoch; /* by who renews the token */
#define TOKEN_PENDING UINT64_MAX
static uint64_t no_token_page; /* until there is one: no token is current */
uint64_t *fipc_fork_token_page = &no_token_page;

void (*fipc_before_fork)(void);

static __thread const char *limit_name;

const char *fipc_limit_name(void) { return limit_name ? limit_name : "memory"; }

void fipc_set_limit_name(const char *name) { limit_name = name; }

static void lock_process(void) {
    if (process_depth++ == 0)
        (void)pthread_mutex_lock(&process_mutex);
}

static void unlock_process(void) {
    if (--process_depth == 0)
        (void)pthread_mutex_unlock(&process_mutex);
}

static void prepare_fork(void) {
    lock_process();
    if (fipc_before_fork != NULL)
        fipc_before_fork();
}

static void renew_token(void) {
    /* F1, pairs with F2: the mutex is ready. */
    fipc_store_release(F1, fipc_fork_token_page, ++process_epoch);
}

static void after_fork_in_child(void) {
    renew_token();
    unlock_process();
}

static void process_start(void) {
    uint64_t *page = fipc_os_fork_token();

    if (page != NULL)
        fipc_fork_token_page = page;
    renew_token();
    (void)pthread_atfork(prepare_fork, unlock_process, after_fork_in_child);
}

/* In a child whose fork ran no handlers (clone by hand): the mutex may be left locked
 * by a thread that exists only in the parent. One thread starts anew, others wait. */
static void start_anew(void) {
    if (fipc_cas64_seqcst(F2, fipc_fork_token_page, 0, TOKEN_PENDING)) {
        process_mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        process_depth = 0;
        renew_token();
    }
    while (fipc_load_acquire(F2, fipc_fork_token_page) == TOKEN_PENDING) /* F2 */
        fipc_pause();
}

void fipc_process_lock(void) {
    uint64_t token;

    (void)pthread_once(&process_once, process_start);
    token = fipc_load_acquire(F2, fipc_fork_token_page);
    if (fipc_unlikely(token == 0 || token == TOKEN_PENDING))
        start_anew();
    lock_process();
}

void fipc_process_unlock(void) { unlock_process(); }

/* The chunk that holds `offset`, and where that chunk starts. */
static uint32_t chunk_of(uint64_t offset, uint64_t *start, uint64_t *size) {
    uint32_t number;

    if (offset < (UINT64_C(1) << FIPC_CHUNK0_LOG2)) {
        *start = 0;
        *size = UINT64_C(1) << FIPC_CHUNK0_LOG2;
        return 0;
    }
    number = 64 - (uint32_t)__builtin_clzll(offset) - FIPC_CHUNK0_LOG2;
    *start = UINT64_C(1) << (FIPC_CHUNK0_LOG2 + number - 1);
    *size = *start;
    return number;
}

int fipc_segment_peek(const struct fipc_segment *segment, uint64_t offset, uint64_t size,
                      void **address) {
    uint64_t start, chunk_size;
    uint32_t number;
    uint8_t *base;

    if (fipc_unlikely(offset > (UINT64_C(1) << 42) || size > (UINT64_C(1) << 42)))
        return -EBADMSG;
    number = chunk_of(offset, &start, &chunk_size);
    if (fipc_unlikely(number >= FIPC_CHUNK_COUNT || offset - start + size > chunk_size))
        return -EBADMSG;
    base = fipc_load_acquire(X2, &segment->chunk[number]);
    /* The length that we know may be old; then the slow path asks. Memory beyond
     * the file's end would be a SIGBUS. */
    if (fipc_unlikely(base == NULL || offset + size > fipc_load_relaxed(&segment->length)))
        return -ESTALE;
    *address = base + (offset - start);
    return 0;
}

int fipc_segment_fd_is_ours(const struct fipc_segment *segment) {
    uint64_t inode;
    int rc = fipc_os_inode(segment->fd, &inode);

    return rc < 0 || inode != segment->inode ? -EBADF : 0;
}

static int refresh_length(struct fipc_segment *segment) {
    uint64_t inode, length;
    bool sealed;
    int rc = fipc_os_memfd_stat(segment->fd, &inode, &length, &sealed);

    if (rc < 0 || inode != segment->inode)
        return -EBADF;
    if (length > fipc_load_relaxed(&segment->length))
        fipc_store_relaxed(&segment->length, length);
    return 0;
}

bool fipc_segment_has_chunk(const struct fipc_segment *segment, uint64_t offset) {
    uint64_t start, chunk_size;
    uint32_t number = chunk_of(offset, &start, &chunk_size);

    return number < FIPC_CHUNK_COUNT && fipc_load_acquire(X2, &segment->chunk[number]) != NULL;
}

int fipc_segment_map_chunk(struct fipc_segment *segment, uint64_t offset) {
    uint64_t start, chunk_size;
    uint32_t number = chunk_of(offset, &start, &chunk_size);
    void *base;
    int rc;

    if (number >= FIPC_CHUNK_COUNT)
        return -EBADMSG;
    fipc_process_lock();
    rc = refresh_length(segment);
    if (rc == 0 && segment->chunk[number] == NULL) {
        rc = fipc_os_map(segment->fd, start, chunk_size, &base);
        if (rc == 0) /* X1, pairs with X2 in fipc_segment_peek() */
            fipc_store_release(X1, &segment->chunk[number], (uint8_t *)base);
        else if (rc == -ENOMEM)
            fipc_set_limit_name("the address space (RLIMIT_AS)");
    }
    fipc_process_unlock();
    return rc;
}

int fipc_segment_at(struct fipc_segment *segment, uint64_t offset, uint64_t size, void **address) {
    int rc = fipc_segment_peek(segment, offset, size, address);

    if (fipc_likely(rc != -ESTALE))
        return rc;
    rc = fipc_segment_map_chunk(segment, offset);
    if (rc < 0)
        return rc;
    rc = fipc_segment_peek(segment, offset, size, address);
    return rc == -ESTALE ? -EBADMSG : rc;
}

int fipc_segment_reserve(struct fipc_segment *segment, uint64_t offset, uint64_t size) {
    const char *limit = NULL;
    int rc = fipc_segment_fd_is_ours(segment);

    if (rc < 0)
        return rc;
    rc = fipc_os_reserve(segment->fd, offset, size, &limit);
    if (rc < 0)
        fipc_set_limit_name(limit);
    else if (offset + size > fipc_load_relaxed(&segment->length))
        fipc_store_relaxed(&segment->length, offset + size);
    return rc;
}

static void set_places(struct fipc_segment *segment, uint8_t *base) {
    segment->header = (struct fipc_header_shm *)(base + FIPC_OFF_HEADER);
    segment->slots = (struct fipc_slot_shm *)(base + FIPC_OFF_SLOTS);
    segment->arena = (struct fipc_arena_shm *)(base + FIPC_OFF_ARENA);
    fipc_store_release(X1, &segment->chunk[0], base);
}

/* The first group: the channels' first rings. */
static void init_group(struct fipc_group_shm *group, const struct fipc_segment_config *config) {
    uint64_t place = FIPC_OFF_RINGS, ring_bytes = UINT64_C(1) << FIPC_RING_FIRST_LOG2;

    group->size_class = FIPC_RING_FIRST_LOG2;
    for (uint32_t i = 0; i < config->channel_count; i++) {
        group->block[i].owner = FIPC_OWNER(0, 0); /* a queue's block: the word is moot */
        group->block[i].ordinal = FIPC_POS_FIRST;
        group->block[i].place = place | FIPC_RING_FIRST_LOG2;
        group->block[i].populated = ring_bytes | FIPC_BLOCK_KIND_RING | i << 1;
        place += ring_bytes;
    }
    group->used = config->channel_count;
}

static void init_channel(struct fipc_channel_shm *channel, uint32_t index) {
    channel->put.copy[0].pos = channel->get.copy[0].pos = FIPC_POS_FIRST;
    channel->put.copy[0].ring = channel->get.copy[0].ring =
        FIPC_RING_REF(1, FIPC_BLOCK_ID(0, index));
}

static void init_arena(struct fipc_arena_shm *arena) {
    arena->state.copy[0].pos = FIPC_OFF_SPACE;
    arena->state.copy[0].count = 1;
    arena->tail[FIPC_RING_FIRST_LOG2 - FIPC_CLASS_MIN] = 1;
}

/* A random name, 16 bytes. Drawn from a pool, since asking the kernel takes 2 us; a child
 * has the same pool as its parent, and so throws it away. */
static int new_id(uint8_t *id) {
    static uint8_t pool[16][16];
    static uint32_t left;
    static uint64_t token;
    int rc = 0;

    fipc_process_lock();
    if (left == 0 || !fipc_token_is_current(token)) {
        left = 0;
        rc = fipc_os_random(pool, sizeof(pool));
        if (rc == 0) {
            left = sizeof(pool) / sizeof(pool[0]);
            token = fipc_load_relaxed(fipc_fork_token_page);
        }
    }
    if (rc == 0)
        memcpy(id, pool[--left], sizeof(pool[0]));
    fipc_process_unlock();
    return rc;
}

/* What a segment begins with: the first group, and behind it the header's page as far as
 * the slots, which are zeros. */
#define BORN_BYTES (FIPC_OFF_SLOTS - FIPC_OFF_GROUP0)

static void init_header(struct fipc_header_shm *header, const struct fipc_segment *segment,
                        uint32_t kind) {
    memcpy(header->id, segment->id, sizeof(header->id));
    header->version = FIPC_FORMAT_VERSION;
    header->kind = kind;
    header->maxsize = segment->maxsize;
    header->max_bytes = segment->max_bytes;
    memcpy(header->label, segment->label, sizeof(header->label));
    header->magic = FIPC_MAGIC;
}

/* Into the file and not through a mapping, since a touched mapping costs 5 us here: page
 * faults, a page of the page table, and the same again when it is unmapped. */
static int write_first_pages(const struct fipc_segment *segment,
                             const struct fipc_segment_config *config) {
    _Alignas(FIPC_CACHE_LINE) uint8_t born[BORN_BYTES] = {0};
    const char *limit = NULL;
    int rc;

    init_group((struct fipc_group_shm *)born, config);
    init_header((struct fipc_header_shm *)(born + FIPC_OFF_HEADER - FIPC_OFF_GROUP0), segment,
                config->kind);
    init_channel((struct fipc_channel_shm *)(born + FIPC_OFF_CHANNEL0 - FIPC_OFF_GROUP0), 0);
    if (config->channel_count == 2)
        init_channel((struct fipc_channel_shm *)(born + FIPC_OFF_CHANNEL1 - FIPC_OFF_GROUP0), 1);
    init_arena((struct fipc_arena_shm *)(born + FIPC_OFF_ARENA - FIPC_OFF_GROUP0));
    *(uint32_t *)(born + FIPC_OFF_GROUP_DIR0 - FIPC_OFF_GROUP0) = FIPC_OFF_GROUP0 / FIPC_PAGE;
    /* step create-magic */
    rc = fipc_os_fill(segment->fd, FIPC_OFF_GROUP0, born, sizeof(born), &limit);
    if (rc < 0)
        fipc_set_limit_name(limit);
    return rc;
}

int fipc_segment_create(struct fipc_segment *segment, const struct fipc_segment_config *config) {
    static const char *const kinds[] = {"", "queue", "conn"};
    char name[120];
    int rc;

    memset(segment, 0, sizeof(*segment));
    segment->maxsize = config->maxsize;
    segment->max_bytes = config->max_bytes;
    segment->length = FIPC_OFF_SPACE;
    if (config->label != NULL)
        (void)snprintf(segment->label, sizeof(segment->label), "%s", config->label);
    rc = new_id(segment->id);
    if (rc < 0)
        return rc;
    (void)snprintf(name, sizeof(name), "fastipc:%s:%s", kinds[config->kind], segment->label);
    rc = fipc_os_memfd_create(name, segment->length);
    if (rc == -EFBIG)
        fipc_set_limit_name("RLIMIT_FSIZE");
    if (rc < 0)
        return rc;
    segment->fd = rc;
    rc = fipc_os_inode(segment->fd, &segment->inode);
    if (rc == 0)
        rc = write_first_pages(segment, config);
    if (rc < 0)
        (void)close(segment->fd);
    return rc < 0 ? rc : 0;
}

int fipc_segment_share(struct fipc_segment *second, const struct fipc_segment *first) {
    int fd = fcntl(first->fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    memset(second, 0, sizeof(*second));
    second->fd = fd;
    second->inode = first->inode;
    second->length = first->length;
    second->maxsize = first->maxsize;
    second->max_bytes = first->max_bytes;
    memcpy(second->id, first->id, sizeof(second->id));
    memcpy(second->label, first->label, sizeof(second->label));
    return 0;
}

static int map_first(struct fipc_segment *segment) {
    void *base;
    int rc = fipc_os_map(segment->fd, 0, UINT64_C(1) << FIPC_CHUNK0_LOG2, &base);

    if (rc == -ENOMEM)
        fipc_set_limit_name("the address space (RLIMIT_AS)");
    if (rc == 0)
        set_places(segment, base);
    return rc;
}

int fipc_segment_map(struct fipc_segment *segment) {
    int rc = 0;

    fipc_process_lock();
    if (segment->chunk[0] == NULL) {
        rc = fipc_segment_fd_is_ours(segment);
        if (rc == 0)
            rc = map_first(segment);
    }
    fipc_process_unlock();
    return rc;
}

bool fipc_segment_was_entered(const struct fipc_segment *segment) {
    uint32_t slot_high;

    /* Where nothing was ever used the question whether the descriptor is ours is left out, 0.4
     * us: who goes on maps the segment, and finds out. */
    if (segment->fork_token != 0 ||
        (segment->chunk[0] != NULL && fipc_segment_fd_is_ours(segment) < 0) ||
        fipc_os_peek(segment->fd, FIPC_OFF_HEADER + offsetof(struct fipc_header_shm, slot_high),
                     &slot_high, sizeof(slot_high)) < 0)
        return true;
    return slot_high != 0;
}

int fipc_segment_reserve_first(struct fipc_segment *segment) {
    struct fipc_group_shm *group = (struct fipc_group_shm *)(segment->chunk[0] + FIPC_OFF_GROUP0);
    uint64_t rings = fipc_load_acquire(U2, &group->used);

    /* Nobody has entered, so these are as at birth. */
    if (rings < 1 || rings > 2)
        return -EBADMSG;
    return fipc_segment_reserve(segment, FIPC_OFF_RINGS, rings << FIPC_RING_FIRST_LOG2);
}

int fipc_segment_open(struct fipc_segment *segment, int fd, uint32_t kind) {
    const struct fipc_header_shm *header;
    uint64_t length;
    bool sealed;
    int rc;

    memset(segment, 0, sizeof(*segment));
    segment->fd = fd;
    rc = fipc_os_memfd_stat(fd, &segment->inode, &length, &sealed);
    if (rc < 0)
        return rc;
    if (!sealed || length < FIPC_OFF_SPACE)
        return -EINVAL;
    segment->length = length;
    rc = map_first(segment);
    if (rc < 0)
        return rc;
    header = segment->header;
    /* Relaxed: written in one piece before there was a second descriptor. */
    if (fipc_load_relaxed(&header->magic) != FIPC_MAGIC || header->version != FIPC_FORMAT_VERSION ||
        header->kind != kind) {
        fipc_os_unmap(segment->chunk[0], UINT64_C(1) << FIPC_CHUNK0_LOG2);
        return -EINVAL;
    }
    memcpy(segment->id, header->id, sizeof(segment->id));
    segment->maxsize = header->maxsize;
    segment->max_bytes = header->max_bytes;
    memcpy(segment->label, header->label, sizeof(segment->label) - 1);
    return 0;
}

void fipc_segment_detach(struct fipc_segment *segment) {
    fipc_process_lock();
    segment->detach_due = segment->hold_count != 0;
    fipc_process_unlock();
    if (segment->detach_due)
        return;
    fipc_slots_release(segment);
    if (segment->fd >= 0 && fipc_segment_fd_is_ours(segment) == 0)
        (void)close(segment->fd);
    segment->fd = -1;
}

void fipc_segment_close(struct fipc_segment *segment) {
    uint64_t start, size;

    fipc_segment_detach(segment);
    for (uint32_t i = 0; i < FIPC_CHUNK_COUNT; i++) {
        if (segment->chunk[i] == NULL)
            continue;
        (void)chunk_of(i == 0 ? 0 : UINT64_C(1) << (FIPC_CHUNK0_LOG2 + i - 1), &start, &size);
        fipc_os_unmap(segment->chunk[i], size);
        segment->chunk[i] = NULL;
    }
}

int fipc_segment_enter(struct fipc_segment *segment) {
    int rc = 0;

    fipc_process_lock();
    if (!fipc_token_is_current(segment->fork_token)) {
        /* In a forked child the parent's slot is not ours: its mapping did not
         * come along (MADV_DONTFORK), so there is nothing to undo. */
        segment->slot_pin = NULL;
        segment->fork_token = 0;
        rc = fipc_segment_map(segment);
        if (rc == 0)
            rc = fipc_slots_claim(segment);
        if (rc == 0) {
            fipc_store_release(V1, &segment->fork_token, fipc_load_relaxed(fipc_fork_token_page));
            rc = 1;
        }
    }
    fipc_process_unlock();
    return rc;
}
