/* test_ends.c - the end of stream (shutdown) and stats(): threads as peers, so that TSan
 * sees both sides, and children that are killed where a kill must show. Killing a shutdown
 * at every instruction is tests/crash's. */
#define _GNU_SOURCE
#include <poll.h>

#include "fixture.h"
#include "stats.h"

static bool is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    CHECK_OK(poll(&entry, 1, 0));
    return entry.revents & POLLIN;
}

static int shut(struct fipc_queue *queue, bool immediate) {
    int rc;

    do
        rc = fipc_queue_shutdown(queue, immediate);
    while (rc == -EINTR);
    return rc;
}

/* A message of that many bytes, whose number stands in front. */
static int put_number(struct fipc_queue *queue, uint64_t number, uint64_t size_bytes,
                      int64_t deadline_ns) {
    uint64_t *bytes = calloc(1, size_bytes + sizeof(number));
    int rc;

    CHECK(bytes != NULL);
    bytes[0] = number;
    rc = put_bytes(queue, bytes, size_bytes, deadline_ns);
    free(bytes);
    return rc;
}

/* Its number, or the error; counted as given. */
static int64_t get_number(struct fipc_queue *queue, int64_t deadline_ns) {
    struct inbox inbox;
    uint64_t number;
    int rc = get_message(queue, &inbox, deadline_ns);

    if (rc < 0)
        return rc;
    memcpy(&number, message_of(&inbox), sizeof(number));
    fipc_queue_release(queue, &inbox.got);
    fipc_channel_count_given(&queue->channel, 1);
    return (int64_t)number;
}

static struct fipc_stats stats_of(struct fipc_queue *queue) {
    struct fipc_stats stats;

    CHECK_EQ(fipc_channel_stats(&queue->channel, &stats, in_ms(PATIENCE_MS)), 0);
    return stats;
}

/* ---- shutting down ---- */

static void behind_a_shutdown_nothing_is_put_and_what_is_queued_is_got(void) {
    struct fipc_queue *queue = new_queue(3, 0), *again = open_again(queue);

    for (uint64_t i = 0; i < 3; i++)
        CHECK_EQ(put_number(queue, i, i == 1 ? 100000 : 8, 0), 0);
    CHECK_EQ(fipc_queue_shut_state(again), 0);
    for (int times = 0; times < 2; times++) {
        CHECK_EQ(shut(again, false), 0);
        CHECK_EQ(fipc_queue_shut_state(queue), 1);
        /* Also where there is no room, and for what could never fit inline. */
        CHECK_EQ(put_number(queue, 9, 8, in_ms(PATIENCE_MS)), -ESHUTDOWN);
        CHECK_EQ(put_number(again, 9, 100000, 0), -ESHUTDOWN);
        CHECK_EQ(fipc_queue_try_put(queue, "x", 1, 0), -ESHUTDOWN);
    }
    for (int64_t i = 0; i < 3; i++)
        CHECK_EQ(get_number(i & 1 ? queue : again, 0), i);
    CHECK_EQ(get_number(queue, 0), -ESHUTDOWN);
    CHECK_EQ(get_number(again, in_ms(PATIENCE_MS)), -ESHUTDOWN);
    CHECK_EQ(put_number(queue, 9, 8, 0), -ESHUTDOWN);
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void an_immediate_shutdown_gives_up_what_is_queued_and_its_memory(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint64_t items, bytes;

    /* Several rings, and blocks. */
    for (uint64_t i = 0; i < 20000; i++)
        CHECK_EQ(put_number(queue, i, i % 100 == 0 ? 20000 : 100, 0), 0);
    for (int64_t i = 0; i < 5; i++)
        CHECK_EQ(get_number(again, 0), i);
    CHECK_EQ(fipc_queue_unfinished(queue), 20000);
    CHECK_EQ(shut(queue, false), 0);
    CHECK_EQ(get_number(again, 0), 5);
    CHECK_EQ(shut(queue, true), 0);
    CHECK_EQ(fipc_queue_shut_state(again), 2);
    CHECK_EQ(fipc_queue_unfinished(queue), 6);
    CHECK(fipc_queue_is_empty(again));
    fipc_queue_depth(again, &items, &bytes);
    CHECK_EQ(items + bytes, 0);
    CHECK_EQ(get_number(again, in_ms(PATIENCE_MS)), -ESHUTDOWN);
    CHECK_EQ(put_number(again, 9, 8, 0), -ESHUTDOWN);
    check_census(queue, 0);
    CHECK_EQ(stats_of(again).gets, 6);
    CHECK_EQ(stats_of(again).lost, 0);
    CHECK_EQ(stats_of(again).bytes_got, stats_of(again).bytes_put);
    CHECK_EQ(shut(again, true), 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void tasks_that_were_given_up_count_as_done(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_waiting waiting = {0};

    for (uint64_t i = 0; i < 5; i++)
        CHECK_EQ(put_number(queue, i, 8, 0), 0);
    CHECK_EQ(get_number(queue, 0), 0);
    CHECK_EQ(get_number(queue, 0), 1);
    CHECK_EQ(fipc_queue_task_done(queue), 0);
    CHECK_EQ(shut(queue, true), 0);
    CHECK_EQ(fipc_queue_unfinished(queue), 1);
    CHECK_EQ(fipc_queue_join(queue, 0, &waiting), -ETIMEDOUT);
    CHECK_EQ(fipc_queue_task_done(queue), 0);
    CHECK_EQ(fipc_queue_task_done(queue), -ERANGE);
    CHECK_EQ(fipc_queue_join(queue, 0, &waiting), 0);
    fipc_queue_close(queue);

    /* Marked as done before they were taken. */
    queue = new_queue(0, 0);
    for (uint64_t i = 0; i < 5; i++)
        CHECK_EQ(put_number(queue, i, 8, 0), 0);
    CHECK_EQ(get_number(queue, 0), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(fipc_queue_task_done(queue), 0);
    CHECK_EQ(shut(queue, true), 0);
    CHECK_EQ(fipc_queue_unfinished(queue), 0);
    CHECK_EQ(fipc_queue_task_done(queue), -ERANGE);
    fipc_queue_close(queue);
}

/* ---- who is blocked ---- */

struct call {
    struct fipc_queue *queue;
    enum { GETS, PUTS, JOINS } kind;
    int64_t result;
};

static void *make_call(void *argument) {
    struct call *call = argument;
    struct fipc_waiting waiting = {0};

    switch (call->kind) {
    case GETS:
        call->result = get_number(call->queue, in_ms(PATIENCE_MS));
        break;
    case PUTS:
        call->result = put_number(call->queue, 7, 8, in_ms(PATIENCE_MS));
        break;
    case JOINS:
        do
            call->result = fipc_queue_join(call->queue, in_ms(PATIENCE_MS), &waiting);
        while (call->result == -EINTR);
        break;
    }
    return NULL;
}

static void await_sleepers(struct fipc_queue *queue, uint32_t getters, uint32_t putters) {
    int64_t end_ns = in_ms(PATIENCE_MS);
    struct fipc_stats stats;

    do {
        CHECK(fipc_os_now_ns() < end_ns);
        sleep_ms(1);
        stats = stats_of(queue);
    } while (stats.getters != getters || stats.putters != putters);
}

static void whoever_is_blocked_learns_of_a_shutdown(void) {
    enum { CALLS = 6 };

    for (int immediate = 0; immediate < 2; immediate++) {
        struct fipc_queue *empty = new_queue(0, 0), *full = new_queue(2, 0);
        struct fipc_queue *empty_again = open_again(empty), *full_again = open_again(full);
        struct call getting[CALLS], putting[CALLS], joining = {full_again, JOINS, 0};
        pthread_t threads[2 * CALLS], joiner;

        CHECK_EQ(put_number(full, 1, 8, 0), 0);
        CHECK_EQ(put_number(full, 2, 100000, 0), 0);
        for (int i = 0; i < CALLS; i++) {
            getting[i] = (struct call){i & 1 ? empty : empty_again, GETS, 0};
            putting[i] = (struct call){i & 1 ? full : full_again, PUTS, 0};
            threads[i] = check_thread(make_call, &getting[i]);
            threads[CALLS + i] = check_thread(make_call, &putting[i]);
        }
        joiner = check_thread(make_call, &joining);
        await_sleepers(empty, CALLS, 0);
        await_sleepers(full, 0, CALLS);
        CHECK_EQ(shut(empty, immediate), 0);
        CHECK_EQ(shut(full, immediate), 0);
        for (int i = 0; i < CALLS; i++) {
            check_thread_join(threads[i]);
            check_thread_join(threads[CALLS + i]);
            CHECK_EQ(getting[i].result, -ESHUTDOWN);
            CHECK_EQ(putting[i].result, -ESHUTDOWN);
        }
        await_sleepers(full, 0, 0);
        if (!immediate) {
            CHECK_EQ(fipc_queue_task_done(full), 0);
            CHECK_EQ(fipc_queue_task_done(full), 0);
        }
        check_thread_join(joiner);
        CHECK_EQ(joining.result, 0);
        fipc_queue_close(empty_again);
        fipc_queue_close(full_again);
        fipc_queue_close(empty);
        fipc_queue_close(full);
    }
}

struct traffic {
    struct fipc_queue *queue;
    bool done; /* marks each message as done */
    uint64_t count;
    uint64_t sum;
};

static void *put_until_shut(void *argument) {
    struct traffic *traffic = argument;
    int rc;

    while ((rc = put_number(traffic->queue, traffic->count, traffic->count % 64 == 0 ? 9000 : 8,
                            in_ms(PATIENCE_MS))) == 0)
        traffic->sum += traffic->count++;
    CHECK_EQ(rc, -ESHUTDOWN);
    return NULL;
}

static void *get_until_shut(void *argument) {
    struct traffic *traffic = argument;
    int64_t number;

    while ((number = get_number(traffic->queue, in_ms(PATIENCE_MS))) >= 0) {
        traffic->count++;
        traffic->sum += (uint64_t)number;
        if (traffic->done)
            CHECK_EQ(fipc_queue_task_done(traffic->queue), 0);
    }
    CHECK_EQ(number, -ESHUTDOWN);
    return NULL;
}

/* In the middle of traffic: all that was put before it arrives, or was given up; join()
 * ends in any case. */
static void a_shutdown_in_the_middle_of_traffic(bool immediate, uint64_t maxsize) {
    enum { EACH = 2 };
    struct fipc_queue *queue = new_queue(maxsize, 0);
    /* TSan knows memory by its address, and each handle has addresses of its own. */
    struct fipc_queue *again = FIXTURE_TSAN ? queue : open_again(queue);
    struct traffic put[EACH] = {0}, got[EACH] = {0}, all_put = {0}, all_got = {0};
    struct call joining = {queue, JOINS, 0};
    pthread_t threads[2 * EACH], joiner;

    for (int i = 0; i < EACH; i++) {
        put[i].queue = got[i].queue = i == 0 ? queue : again;
        got[i].done = true;
        threads[i] = check_thread(put_until_shut, &put[i]);
        threads[EACH + i] = check_thread(get_until_shut, &got[i]);
    }
    sleep_ms(5);
    joiner = check_thread(make_call, &joining);
    sleep_ms(1);
    CHECK_EQ(shut(again, immediate), 0);
    for (int i = 0; i < 2 * EACH; i++)
        check_thread_join(threads[i]);
    check_thread_join(joiner);
    CHECK_EQ(joining.result, 0);
    for (int i = 0; i < EACH; i++) {
        all_put.count += put[i].count;
        all_put.sum += put[i].sum;
        all_got.count += got[i].count;
        all_got.sum += got[i].sum;
    }
    CHECK_EQ(fipc_queue_unfinished(queue), 0);
    CHECK_EQ(stats_of(queue).puts, all_put.count);
    CHECK_EQ(stats_of(queue).gets, all_got.count);
    CHECK_EQ(stats_of(queue).lost, 0);
    if (!immediate) {
        CHECK_EQ(all_got.count, all_put.count);
        CHECK_EQ(all_got.sum, all_put.sum);
    }
    check_census(queue, 0);
    if (!FIXTURE_TSAN)
        fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_shutdown_loses_nothing_of_the_traffic_before_it(void) {
    for (int i = 0; i < FIXTURE_LESS(40, 10); i++)
        a_shutdown_in_the_middle_of_traffic(false, i & 1 ? 4 : 0);
}

static void an_immediate_shutdown_in_the_middle_of_traffic_leaves_no_task(void) {
    for (int i = 0; i < FIXTURE_LESS(40, 10); i++)
        a_shutdown_in_the_middle_of_traffic(true, i & 1 ? 4 : 0);
}

/* ---- the doorbell ---- */

static void a_queue_that_is_shut_is_readable_for_good(void) {
    for (int armed_before = 0; armed_before < 2; armed_before++) {
        for (int immediate = 0; immediate < 2; immediate++) {
            struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
            int fd = armed_before ? fipc_queue_fileno(again) : -1;

            CHECK_EQ(put_number(queue, 1, 8, 0), 0);
            CHECK_EQ(get_number(queue, 0), 1);
            CHECK(!armed_before || !is_readable(fd));
            CHECK_EQ(put_number(queue, 2, 8, 0), 0);
            CHECK_EQ(shut(queue, immediate), 0);
            if (!armed_before)
                fd = fipc_queue_fileno(again);
            CHECK_OK(fd);
            CHECK(is_readable(fd));
            CHECK_EQ(get_number(again, 0), immediate ? -ESHUTDOWN : 2);
            for (int i = 0; i < 3; i++) {
                CHECK(is_readable(fd));
                CHECK_EQ(get_number(again, 0), -ESHUTDOWN);
            }
            CHECK(is_readable(fipc_queue_fileno(queue)));
            fipc_queue_close(again);
            fipc_queue_close(queue);
        }
    }
}

/* ---- kills ---- */

struct kill {
    struct fipc_queue *queue;
    struct gate ready;
};

static void shut_and_die_before_freeing(void *argument) {
    struct kill *kill = argument;

    CHECK_EQ(fipc_channel_shut_put(&kill->queue->channel, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(fipc_channel_shut_get(&kill->queue->channel, in_ms(PATIENCE_MS)), 0);
    tell(&kill->ready);
    wait_to_be_killed();
}

static void what_a_dead_shutter_left_is_freed_by_who_gets(void) {
    struct kill kill = {new_queue(0, 0), new_gate()};
    int64_t end_ns = in_ms(PATIENCE_MS);
    pid_t pid;

    for (uint64_t i = 0; i < 3000; i++)
        CHECK_EQ(put_number(kill.queue, i, i % 30 == 0 ? 20000 : 100, 0), 0);
    pid = check_fork(shut_and_die_before_freeing, &kill);
    await(&kill.ready);
    kill_child(pid);
    CHECK(!fipc_channel_is_empty(&kill.queue->channel));
    CHECK_EQ(fipc_queue_unfinished(kill.queue), 0);
    do {
        CHECK(fipc_os_now_ns() < end_ns);
        CHECK_EQ(get_number(kill.queue, 0), -ESHUTDOWN);
        CHECK_EQ(stats_of(kill.queue).items, 0);
    } while (!fipc_channel_is_empty(&kill.queue->channel));
    check_census(kill.queue, 0);
    CHECK_EQ(stats_of(kill.queue).gets, 0);
    CHECK_EQ(stats_of(kill.queue).lost, 0);
    fipc_queue_close(kill.queue);
    close_gate(&kill.ready);
}

static void take_and_wait(void *argument) {
    struct kill *kill = argument;
    struct inbox inbox;

    CHECK_EQ(get_number(kill->queue, in_ms(PATIENCE_MS)), 1);
    CHECK_EQ(get_message(kill->queue, &inbox, in_ms(PATIENCE_MS)), 0);
    tell(&kill->ready);
    wait_to_be_killed();
}

static void count_under_the_lock_and_wait(void *argument) {
    struct kill *kill = argument;

    CHECK_EQ(fipc_channel_enter(&kill->queue->channel), 0);
    CHECK_EQ(fipc_channel_lock_get(&kill->queue->channel, in_ms(PATIENCE_MS)), 0);
    fipc_channel_count_taken(&kill->queue->channel, 1);
    tell(&kill->ready);
    wait_to_be_killed();
}

static void who_died_last_and_what_was_lost_is_known(void) {
    struct kill kill = {new_queue(0, 0), new_gate()};
    struct fipc_queue *queue = kill.queue, *again;
    pid_t pid;

    CHECK_EQ(stats_of(queue).last_dead_pid, 0);
    for (int times = 1; times <= 3; times++) {
        CHECK_EQ(put_number(queue, 1, 8, 0), 0);
        CHECK_EQ(put_number(queue, 2, times == 2 ? 100000 : 8, 0), 0);
        pid = check_fork(take_and_wait, &kill);
        await(&kill.ready);
        CHECK_EQ(stats_of(queue).lost, times - 1); /* it may still return it */
        kill_child(pid);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(stats_of(queue).lost, times);
        CHECK_EQ(stats_of(queue).last_dead_pid, pid);
        /* Its slot goes on with another owner. */
        again = open_again(queue);
        CHECK_EQ(put_number(again, 3, 8, 0), 0);
        CHECK_EQ(get_number(again, 0), 3);
        CHECK_EQ(stats_of(again).lost, times);
        CHECK_EQ(put_number(again, 4, 8, 0), 0);
        CHECK_EQ(get_number(again, 0), 4);
        fipc_queue_close(again);
        CHECK_EQ(stats_of(queue).lost, times);
    }
    CHECK_EQ(stats_of(queue).puts, 12);
    CHECK_EQ(stats_of(queue).gets, 12);
    fipc_queue_close(queue);
    close_gate(&kill.ready);
}

static void who_died_before_the_publish_has_lost_nothing(void) {
    struct kill kill = {new_queue(0, 0), new_gate()};
    pid_t pid;

    CHECK_EQ(put_number(kill.queue, 1, 8, 0), 0);
    pid = check_fork(count_under_the_lock_and_wait, &kill);
    await(&kill.ready);
    kill_child(pid);
    CHECK_EQ(stats_of(kill.queue).lost, 0);
    CHECK_EQ(stats_of(kill.queue).recoveries, 1);
    CHECK_EQ(get_number(kill.queue, in_ms(PATIENCE_MS)), 1);
    CHECK_EQ(stats_of(kill.queue).lost, 0);
    fipc_queue_close(kill.queue);
    close_gate(&kill.ready);
}

static void closing_with_a_message_in_hand_loses_nothing(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct inbox inbox;

    CHECK_EQ(put_number(queue, 1, 8, 0), 0);
    CHECK_EQ(get_message(again, &inbox, 0), 0);
    CHECK_EQ(stats_of(queue).lost, 0);
    fipc_queue_detach(again);
    fipc_channel_count_given(&again->channel, 1); /* too late to count */
    CHECK_EQ(stats_of(queue).lost, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* ---- the other numbers ---- */

static void what_went_through_and_what_is_queued_is_counted(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_stats stats;

    for (uint64_t i = 0; i < 10; i++)
        CHECK_EQ(put_number(queue, i, 8, 0), 0);
    CHECK_EQ(put_number(queue, 10, 100000, 0), 0);
    for (int64_t i = 0; i < 4; i++)
        CHECK_EQ(get_number(queue, 0), i);
    stats = stats_of(queue);
    CHECK_EQ(stats.puts, 11);
    CHECK_EQ(stats.gets, 4);
    CHECK_EQ(stats.items, 7);
    CHECK_EQ(stats.bytes_put, 10 * 16 + 100000 + 24);
    CHECK_EQ(stats.bytes_got, 4 * 16);
    CHECK_EQ(stats.bytes, stats.bytes_put - stats.bytes_got);
    CHECK_EQ(stats.items_high, 11); /* seen by the first get */
    for (int64_t i = 4; i < 11; i++)
        CHECK_EQ(get_number(queue, 0), i);
    stats = stats_of(queue);
    CHECK_EQ(stats.items + stats.bytes, 0);
    CHECK_EQ(stats.bytes_got, stats.bytes_put);
    CHECK_EQ(stats.items_high, 11);
    CHECK_EQ(stats.bytes_high, 10 * 16 + 100000 + 24);
    fipc_queue_close(queue);
}

static void producers_notice_how_full_it_was(void) {
    struct fipc_queue *bounded = new_queue(5, 0), *growing = new_queue(0, 0);

    for (uint64_t i = 0; i < 5; i++)
        CHECK_EQ(put_number(bounded, i, 8, 0), 0);
    CHECK_EQ(put_number(bounded, 5, 8, 0), -ETIMEDOUT);
    for (int64_t i = 0; i < 5; i++)
        CHECK_EQ(get_number(bounded, 0), i);
    CHECK_EQ(stats_of(bounded).items_high, 5);
    CHECK_EQ(stats_of(bounded).bytes_high, 5 * 16);
    fipc_queue_close(bounded);
    /* At each new ring, for want of room in the one before. */
    for (uint64_t i = 0; i < 10000; i++)
        CHECK_EQ(put_number(growing, i, 100, 0), 0);
    for (int64_t i = 0; i < 10000; i++)
        CHECK_EQ(get_number(growing, 0), i);
    CHECK(stats_of(growing).items_high > 1000);
    CHECK(stats_of(growing).items_high <= 10000);
    fipc_queue_close(growing);
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(behind_a_shutdown_nothing_is_put_and_what_is_queued_is_got);
    CHECK_RUN(an_immediate_shutdown_gives_up_what_is_queued_and_its_memory);
    CHECK_RUN(tasks_that_were_given_up_count_as_done);
    CHECK_RUN(whoever_is_blocked_learns_of_a_shutdown);
    CHECK_RUN(a_shutdown_loses_nothing_of_the_traffic_before_it);
    CHECK_RUN(an_immediate_shutdown_in_the_middle_of_traffic_leaves_no_task);
    CHECK_RUN(a_queue_that_is_shut_is_readable_for_good);
    CHECK_RUN(what_a_dead_shutter_left_is_freed_by_who_gets);
    CHECK_RUN(who_died_last_and_what_was_lost_is_known);
    CHECK_RUN(who_died_before_the_publish_has_lost_nothing);
    CHECK_RUN(closing_with_a_message_in_hand_loses_nothing);
    CHECK_RUN(what_went_through_and_what_is_queued_is_counted);
    CHECK_RUN(producers_notice_how_full_it_was);
    return CHECK_END();
}
