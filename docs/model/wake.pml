/* wake.pml - sleeping and waking (csrc/wait.c, wait_for_item() and wait_for_room() of
 * csrc/queue.c): two producers and two consumers of a bounded queue, who sleep on the sleepers
 * words of the two sides; one producer puts a batch; everybody may give up at a deadline.
 *
 * Shows: when nothing moves any more, nobody sleeps who has something to do: without a kill no
 * wake is lost even if nobody ever looks again by himself, and with kills the recheck finds what
 * a dead waker left. A recheck that would find nothing is made at most IDLE times.
 *
 * The wakes rest on a store and a load of another word behind it, in both processes. The model
 * takes steps in one order for all, as sequentially consistent operations do; `no-barrier` is
 * what could happen with weaker ones.
 *
 * Sizes: with ITEMS, producers who always find room, and two consumers (with BATCH one producer
 * who puts two at once); with SPACE, two producers and a consumer who does not wait; else one of
 * each, who wait for each other.
 *
 * run items: -DITEMS -DGETS=1 -DKILLS=0 -DRECHECK=0
 * run batch: -DITEMS -DBATCH -DKILLS=0 -DRECHECK=0
 * run space: -DSPACE -DKILLS=0 -DRECHECK=0
 * run both: -DKILLS=0 -DRECHECK=0
 * run batch-kills: -DITEMS -DBATCH -DKILLS=1
 * run space-kills: -DSPACE -DGETS=2 -DKILLS=1
 * run both-kills: -DKILLS=1 -DIDLE=1
 * broken no-recheck: -DITEMS -DBATCH -DKILLS=1 -DRECHECK=0 -> assertion violated
 * broken no-recheck-for-room: -DSPACE -DKILLS=1 -DRECHECK=0 -> assertion violated
 * broken no-second-look: -DITEMS -DBATCH -DKILLS=0 -DRECHECK=0 -DBREAK_NO_SECOND_LOOK -> assertion violated
 * broken no-barrier: -DITEMS -DBATCH -DKILLS=0 -DRECHECK=0 -DBREAK_NO_BARRIER -> assertion violated
 * broken plain-word: -DITEMS -DBATCH -DKILLS=0 -DRECHECK=0 -DBREAK_PLAIN_WORD -> assertion violated
 */
#define PROCS 4
#ifdef ITEMS
#define ROOM 3
#define FIRST_ITEMS 0
#else
#define ROOM 1
#ifdef SPACE
#define FIRST_ITEMS 1
#else
#define FIRST_ITEMS 0
#endif
#endif
#ifndef IDLE
#define IDLE 0
#endif
#include "common.inc"

/* Processes 0 and 1 put, and sleep on the get side's word; 2 and 3 get, and sleep on the put
 * side's. */
#define FOR_ROOM 0
#define FOR_ITEM 2
byte items = FIRST_ITEMS;
byte put_word, get_word;
bool asleep[PROCS]; /* in the kernel, on the other side's word */
byte idle;          /* rechecks that found nothing */

#ifndef GETS
#define GETS 3 /* that a consumer makes, or fewer */
#endif
/* So many values of the count of clears tell them apart here. */
#ifndef COUNTS
#define COUNTS 2
#endif

/* A sleepers word: who sleeps, and how often it was cleared. */
#define WHO(word) ((word) & 3)
#define ONE 1
#define MORE 2
#ifdef BREAK_PLAIN_WORD
#define CLEARED(word) 0
#else
#define CLEARED(word) ((((word) & ~3) + 4) & (4 * COUNTS - 1))
#endif

/* fipc_sleepers_mark() */
#define MARK(word, my_mark)                                                                      \
    atomic {                                                                                     \
        if                                                                                       \
        :: WHO(word) == 0 -> word = word | ONE                                                   \
        :: else -> word = (word & ~3) | MORE                                                     \
        fi;                                                                                      \
        my_mark = word                                                                           \
    }

/* Part of an atomic step: the kernel wakes one of two, whichever it likes. Who passes a wake on
 * never finds anybody here, in some of the places: it is for those whom a kill has left. */
inline futex_wake(first, woken) {
    if
    :: asleep[first] -> asleep[first] = false; woken++ /* not reached: in some places */
    :: asleep[first + 1] -> asleep[first + 1] = false; woken++ /* not reached: in some places */
    :: else
    fi
}

/* fipc_sleepers_wake_some(). `first`: the first of those who sleep on the word. */
#define WAKE(word, first, count, label)                                                          \
    do                                                                                           \
    :: seen = word;                                                                              \
       if                                                                                        \
       :: WHO(seen) == 0 -> break                                                                \
       :: atomic {                                                                               \
              WHO(seen) == MORE ->                                                               \
              woken = 0;                                                                         \
              futex_wake(first, woken);                                                          \
              if                                                                                 \
              :: count > 1 -> futex_wake(first, woken)                                           \
              :: else                                                                            \
              fi                                                                                 \
          }                                                                                      \
          if                                                                                     \
          :: woken >= count -> break                                                             \
          :: else                                                                                \
          fi                                                                                     \
       :: WHO(seen) == ONE                                                                       \
       fi;                                                                                       \
       if                                                                                        \
       :: atomic {                                                                               \
              word == seen;                                                                      \
label:                                                                                           \
              word = CLEARED(word)                                                               \
          }                                                                                      \
          atomic {                                                                               \
              futex_wake(first, woken);                                                          \
              if                                                                                 \
              :: WHO(seen) == MORE -> futex_wake(first, woken)                                   \
              :: else                                                                            \
              fi                                                                                 \
          }                                                                                      \
          break                                                                                  \
       :: word != seen                                                                           \
       fi                                                                                        \
    od;                                                                                          \
    atomic { seen = 0; woken = 0 }

#ifdef SPACE
#define WAKE_FOR_ITEM(count, label) skip
#else
#define WAKE_FOR_ITEM(count, label) WAKE(put_word, FOR_ITEM, count, label)
#endif
#ifdef ITEMS
#define WAKE_FOR_ROOM(count, label) skip
#else
#define WAKE_FOR_ROOM(count, label) WAKE(get_word, FOR_ROOM, count, label)
#endif

/* The slice of a sleep has ended, or its deadline is there. */
#define SLEEP(first, has_something)                                                              \
    if                                                                                           \
    :: !asleep[me]                                                                               \
    :: atomic { RECHECK && asleep[me] && (has_something) -> asleep[me] = false }                 \
    :: atomic { RECHECK && asleep[me] && idle < IDLE -> idle++; asleep[me] = false }             \
    :: atomic { hurries && asleep[me] -> asleep[me] = false; expired = true }                    \
    fi

proctype producer(byte me; byte left; bool hurries) {
    byte mark, seen, woken, now;
    bool mark_is_set, has_slept, expired;

    {
        do
        :: left > 0 ->
            /* fipc_channel_put(): a batch puts what there is room for. */
#ifdef BREAK_NO_BARRIER
            bool somebody = WHO(put_word) != 0;
#endif
            if
            :: atomic {
                   items < ROOM ->
                   now = (left < ROOM - items -> left : ROOM - items);
                   left = left - now;
put_publish:
                   items = items + now
               }
lock_release:
#ifdef BREAK_NO_BARRIER
               if
               :: somebody -> WAKE_FOR_ITEM(now, wake_clear)
               :: else
               fi;
#else
               WAKE_FOR_ITEM(now, wake_clear);
#endif
               if
               :: has_slept -> WAKE_FOR_ROOM(1, wake_clear_2)
               :: else
               fi;
               atomic { mark = 0; mark_is_set = false; has_slept = false; now = 0 }
            :: items == ROOM ->
               if
               :: expired -> break
               :: !expired && mark_is_set ->
                   atomic {
                       mark_is_set = false;
                       has_slept = true;
                       asleep[me] = (get_word == mark);
                       mark = 0
                   }
end_full:
                   SLEEP(FOR_ROOM, items < ROOM) /* not reached: each end in another run */
               :: !expired && !mark_is_set ->
#ifdef BREAK_NO_SECOND_LOOK
                   MARK(get_word, mark);
                   atomic { has_slept = true; asleep[me] = (get_word == mark) }
end_full_2:
                   SLEEP(FOR_ROOM, items < ROOM)
#else
                   MARK(get_word, mark);
                   mark_is_set = true
#endif
               fi
            fi
        :: left == 0 -> break
        od;
        /* Who was woken and puts nothing passes the wake on. */
        if
        :: has_slept -> WAKE_FOR_ROOM(1, wake_clear_3)
        :: else
        fi;
        atomic { done[me] = true; left = 0; mark = 0; mark_is_set = false; has_slept = false }
    } MORTAL(me, asleep[me] = false; left = 0; mark = 0; seen = 0; woken = 0; now = 0;
                 mark_is_set = false; has_slept = false; expired = false)
}

proctype consumer(byte me; byte gets; bool hurries) {
    byte mark, seen, woken;
    bool has_slept, expired;

    {
        do
        :: if
           :: atomic {
                  items > 0 ->
get_publish:
                  items--
              }
              WAKE_FOR_ROOM(1, wake_clear);
              if
              :: has_slept && items > 0 -> WAKE_FOR_ITEM(1, wake_clear_2)
              :: else
              fi;
              has_slept = false;
              if
              :: gets > 1 -> gets--
              :: break /* it wanted no more */
              fi
           :: items == 0 ->
#ifdef SPACE
              break; /* there is always one for it, or it wants no more */
#endif
              if
              :: expired -> break
              :: else
              fi;
              MARK(put_word, mark);
              if
#ifndef BREAK_NO_SECOND_LOOK
              :: items > 0 -> mark = 0
#endif
              :: atomic {
#ifndef BREAK_NO_SECOND_LOOK
                     items == 0 ->
#endif
                     has_slept = true
                 }
                 atomic { asleep[me] = (put_word == mark); mark = 0 }
end_empty:
                 SLEEP(FOR_ITEM, items > 0) /* not reached: each end in another run */
              fi
           fi
        od;
        if
        :: has_slept && items > 0 -> WAKE_FOR_ITEM(1, wake_clear_3)
        :: else
        fi;
        atomic { done[me] = true; mark = 0; has_slept = false }
    } MORTAL(me, asleep[me] = false; mark = 0; seen = 0; woken = 0;
                 has_slept = false; expired = false)
}

active proctype watcher() {
end_watcher:
    timeout;
    assert(!((asleep[0] || asleep[1]) && items < ROOM));
    assert(!((asleep[2] || asleep[3]) && items > 0))
}

init {
    atomic {
#ifdef ITEMS
#ifdef BATCH
        run producer(0, 2, false);
        done[1] = true;
#else
        run producer(0, 1, false);
        run producer(1, 1, false);
#endif
        run consumer(2, GETS, false);
        run consumer(3, GETS, true)
#else
#ifdef SPACE
        run producer(0, 1, false);
        run producer(1, 1, true);
        run consumer(2, GETS, false);
        done[3] = true
#else
        run producer(0, 3, false);
        run consumer(2, GETS, false);
        done[1] = true;
        done[3] = true
#endif
#endif
    }
}
