/* order.h - what the programs of tests/orders share: two threads, one on the release side of
 * a barrier pair and one on its acquire side, and a payload that is accessed plainly. Each
 * program has a table of pairs; its argument says which one it runs. */
#ifndef ORDER_H
#define ORDER_H

#include "fixture.h"

/* Written before the release side's function and read behind the acquire side's: only the
 * order of the pair makes that right. ThreadSanitizer reports it by this name. */
int payload;

struct order {
    const char *pair;
    void (*prepare)(void);
    void (*release)(void);
    bool (*acquire)(void); /* true once it has seen what the other side did */
};

static const struct order *order;
static uint32_t is_done; /* relaxed: it orders nothing */

static void *release_side(void *unused) {
    (void)unused;
    payload = 42;
    order->release();
    fipc_store_relaxed(&is_done, 1);
    return NULL;
}

static void *acquire_side(void *unused) {
    (void)unused;
    while (fipc_load_relaxed(&is_done) == 0)
        sched_yield();
    while (!order->acquire())
        sched_yield();
    CHECK_EQ(payload, 42);
    return NULL;
}

static int order_main(int argc, char **argv, const struct order *table, size_t count) {
    pthread_t threads[2];

    for (size_t i = 0; i < count; i++)
        if (argc == 2 && strcmp(argv[1], table[i].pair) == 0)
            order = &table[i];
    CHECK(order != NULL);
    check_case = order->pair;
    check_watchdog(CHECK_WATCHDOG_S);
    order->prepare();
    threads[0] = check_thread(release_side, NULL);
    threads[1] = check_thread(acquire_side, NULL);
    check_thread_join(threads[0]);
    check_thread_join(threads[1]);
    return 0;
}

#define ORDER_MAIN(table)                                                           \
    int main(int argc, char **argv) {                                               \
        return order_main(argc, argv, (table), sizeof(table) / sizeof((table)[0])); \
    }

#endif
