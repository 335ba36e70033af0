/* publish.pml - records through a ring, and a side's state in two copies (csrc/side.h,
 * csrc/channel.c): two producers put, two consumers get, one process reads a side without the
 * lock. A record and a copy are written by two stores each, so that half of one can be seen.
 *
 * Shows: what is got is whole, in the order of the publishes, and got once; nothing that was
 * published is lost or overwritten; a reader without the lock sees one publish, never two mixed.
 * The lock is one step here: lock.pml shows why it may be.
 *
 * run kills: -DKILLS=2
 * run observer: -DKILLS=1 -DOBSERVER
 * broken publish-before-write: -DBREAK_PUBLISH_FIRST -> assertion violated
 * broken one-copy: -DBREAK_ONE_COPY -> assertion violated
 * broken no-second-look: -DKILLS=0 -DOBSERVER -DBREAK_NO_SECOND_LOOK -> assertion violated
 * broken room-not-asked-for: -DKILLS=0 -DBREAK_NO_ROOM -> assertion violated
 */
#define PROCS 4
#define ITEMS 2 /* of the first producer; the second puts one */
#define RING 2 /* records that it holds, fewer than are put */
#include "common.inc"

byte put_lock, get_lock; /* process + 1, or 0 */

/* The count goes up by 3 for each position, so that a mixture of two publishes shows. */
typedef side {
    byte gen;
    byte pos[2];
    byte count[2]
}
side put, get;
byte head[RING], body[RING];

/* For the assertions: what was published at each position, and how many were got. */
byte order[ITEMS + 1];
byte got;

#define CURRENT(s) s.pos[s.gen & 1]
#ifdef BREAK_ONE_COPY
#define IDLE(s) (s.gen & 1)
#define ONE_GEN 2
#else
#define IDLE(s) ((s.gen + 1) & 1)
#define ONE_GEN 1
#endif

/* Also a dead owner's: whoever takes a side over has nothing to repair in it. What is loaded
 * then stands still, since only the lock's owner moves it. */
#define TAKE(lock, load) atomic { lock == 0 || dead[lock - 1] -> lock = me + 1; load }

/* fipc_side_read_pos() */
inline read_pos(s, gen_seen, pos_seen) {
    gen_seen = s.gen;
    do
    :: pos_seen = s.pos[gen_seen & 1];
       if
       :: atomic { s.gen == gen_seen -> gen_seen = 0; break }
       :: atomic { s.gen != gen_seen -> gen_seen = s.gen }
       fi
    od
}

proctype producer(byte me; byte items) {
    byte gen_seen, read, pos, put_so_far;

    {
        do
        :: put_so_far < items ->
end_full:
            CURRENT(put) - CURRENT(get) < RING; /* the wait for room is wake.pml's */
            TAKE(put_lock, pos = CURRENT(put));
            read_pos(get, gen_seen, read);
            if
#ifdef BREAK_NO_ROOM
            :: true ->
#else
            :: pos - read < RING ->
#endif
#ifdef BREAK_PUBLISH_FIRST
                put.pos[IDLE(put)] = pos + 1;
                put.count[IDLE(put)] = 3 * (pos + 1);
                atomic {
                    put.gen = put.gen + ONE_GEN;
                    order[pos] = 1 + me * ITEMS + put_so_far
                }
                head[pos % RING] = 1 + me * ITEMS + put_so_far;
                body[pos % RING] = 1 + me * ITEMS + put_so_far;
#else
                head[pos % RING] = 1 + me * ITEMS + put_so_far;
                body[pos % RING] = 1 + me * ITEMS + put_so_far;
                put.pos[IDLE(put)] = pos + 1;
                put.count[IDLE(put)] = 3 * (pos + 1);
                atomic {
                    order[pos] = 1 + me * ITEMS + put_so_far;
put_publish:
                    put.gen = put.gen + ONE_GEN
                }
#endif
                put_so_far++
            :: else
            fi;
lock_release:
            atomic { put_lock = 0; pos = 0; read = 0 }
        :: put_so_far == items -> break
        od;
        atomic { done[me] = true; put_so_far = 0 }
    } MORTAL(me, gen_seen = 0; read = 0; pos = 0; put_so_far = 0)
}

proctype consumer(byte me) {
    byte gen_seen, written, pos, first, second;

    {
        true; /* spin has no label at the beginning of a block */
end_empty:
        CURRENT(put) != CURRENT(get); /* the wait for a record is wake.pml's */
        TAKE(get_lock, pos = CURRENT(get));
        read_pos(put, gen_seen, written);
        if
        :: pos < written ->
            first = head[pos % RING];
            second = body[pos % RING];
            get.pos[IDLE(get)] = pos + 1;
            get.count[IDLE(get)] = 3 * (pos + 1);
            atomic {
                assert(first == second && first == order[pos]);
                assert(got == pos);
                got++;
get_publish:
                get.gen = get.gen + ONE_GEN
            }
        :: else
        fi;
        atomic { get_lock = 0; pos = 0; written = 0; first = 0; second = 0 }
        goto end_empty
    } MORTAL(me, gen_seen = 0; written = 0; pos = 0; first = 0; second = 0)
}

/* fipc_side_read() of the put side; it may be stopped for as long as it likes, so one look
 * stands for any number. */
#ifdef OBSERVER
active proctype observer() {
    byte gen_seen, pos, count;

    gen_seen = put.gen;
    do
    :: pos = put.pos[gen_seen & 1];
       count = put.count[gen_seen & 1];
       if
#ifdef BREAK_NO_SECOND_LOOK
       :: break
#else
       :: put.gen == gen_seen -> break
       :: atomic { put.gen != gen_seen -> gen_seen = put.gen }
#endif
       fi
    od;
    assert(count == 3 * pos)
}
#endif

init {
    atomic { run producer(0, ITEMS); run producer(1, 1); run consumer(2);
#ifndef OBSERVER
             run consumer(3)
#endif
             }
}
