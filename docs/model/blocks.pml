/* blocks.pml - who owns a block (csrc/channel.c, csrc/arena.c, csrc/arena_sweep.c): producers
 * take free blocks, fill them and hand them over with a record that names one or two; consumers
 * take them over and release them, so that they are taken again; who dies is swept.
 *
 * Shows: a block that a live process works with, or that a queued record names, is nobody else's
 * and not free; a consumer finds in it what its producer wrote; and behind the sweep of a dead
 * process nothing is left that was its own.
 *
 * Each process has a slot of its own, and is one generation of it: lock.pml has the others.
 *
 * run producers: -DPRODUCERS=2 -DKILLS=1
 * run consumers: -DCONSUMERS=2 -DKILLS=2
 * run reapers: -DREAPERS=2 -DKILLS=2
 * broken ordinals-not-repaired: -DPRODUCERS=2 -DBREAK_NO_REPAIR -> assertion violated
 * broken ordinal-behind-the-publish: -DBREAK_ORDINAL_LATE -> assertion violated
 * broken owner-behind-the-publish: -DCONSUMERS=2 -DBREAK_OWNER_LATE -> assertion violated
 * broken swept-by-a-store: -DBREAK_NO_SWAP -> assertion violated
 * broken ordinal-not-read-again: -DPRODUCERS=2 -DBREAK_NO_SECOND_LOOK -> assertion violated
 */
#define PROCS 6
#define BLOCKS 2
#define RECORDS 6
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef REAPERS
#define REAPERS 1
#endif
#include "common.inc"

byte put_lock, get_lock; /* process + 1, or 0 */
byte write_pos = 1, read_pos = 1;

/* A descriptor: process + 1, or 0; and the position of the record that carries the block. */
byte owner[BLOCKS], ordinal[BLOCKS];
byte content[BLOCKS];
typedef record {
    byte block[2];
    byte blocks;
    byte message
}
record ring[RECORDS];

/* What nobody reads again, so that states that differ in it count as one. */
#define CLEAR(pos)                                                                               \
    if                                                                                           \
    :: pos != 0 && pos < read_pos ->                                                             \
       ring[pos].block[0] = 0;                                                                   \
       ring[pos].block[1] = 0;                                                                   \
       ring[pos].blocks = 0;                                                                     \
       ring[pos].message = 0                                                                     \
    :: else                                                                                      \
    fi

byte file_lock[PROCS]; /* of the slot: who sweeps it, + 1, or 0 */
bool swept[PROCS];

/* For the assertions: whose a block is. */
#define FREE 0
#define QUEUE 100
byte whose[BLOCKS]; /* a process + 1, FREE or QUEUE */

#define IN_HAND(p) (whose[0] == (p) + 1 || whose[1] == (p) + 1)

proctype producer(byte me; byte blocks; byte messages) {
    byte mine[2], have, i;

    {
        do
        :: messages > 0 ->
            /* fipc_block_alloc(), of as many as the message needs */
            do
            :: have < blocks ->
end_no_block:
                atomic {
                    if
                    :: owner[0] == 0 -> i = 0
                    :: owner[1] == 0 -> i = 1
                    fi;
                    assert(whose[i] == FREE);
                    whose[i] = me + 1;
block_take:
                    owner[i] = me + 1
                }
                ordinal[i] = 0;
                atomic { content[i] = 10 * me + messages; mine[have] = i; have++; i = 0 }
            :: have == blocks -> break
            od;
            /* fipc_channel_lock_put() */
            if
            :: atomic { put_lock == 0 -> put_lock = me + 1 }
            :: atomic {
                   put_lock != 0 && dead[put_lock - 1] ->
lock_take_over:
                   put_lock = me + 1
               }
#ifndef BREAK_NO_REPAIR
               do
               :: i < BLOCKS && ordinal[i] >= write_pos ->
repair_ordinal:
                   atomic { ordinal[i] = 0; i++ }
               :: i < BLOCKS && ordinal[i] < write_pos -> i++
               :: i == BLOCKS -> break
               od;
               i = 0
#endif
            fi;
            atomic {
                ring[write_pos].block[0] = mine[0];
                ring[write_pos].block[1] = mine[1];
                ring[write_pos].blocks = blocks;
                ring[write_pos].message = 10 * me + messages
            }
#ifndef BREAK_ORDINAL_LATE
            do
            :: i < blocks ->
put_ordinal:
                atomic { ordinal[mine[i]] = write_pos; i++ }
            :: i == blocks -> break
            od;
#endif
            atomic {
                assert(whose[mine[0]] == me + 1 && whose[mine[blocks - 1]] == me + 1);
                whose[mine[0]] = QUEUE;
                whose[mine[blocks - 1]] = QUEUE;
put_publish:
                write_pos++;
                i = 0
            }
#ifdef BREAK_ORDINAL_LATE
            do
            :: i < blocks -> atomic { ordinal[mine[i]] = write_pos - 1; i++ }
            :: i == blocks -> break
            od;
            i = 0;
#endif
lock_release:
            atomic { put_lock = 0; messages--; have = 0; mine[0] = 0; mine[1] = 0 }
        :: messages == 0 -> break
        od;
        done[me] = true
    } MORTAL(me, mine[0] = 0; mine[1] = 0; have = 0; i = 0; messages = 0)
}

proctype consumer(byte me) {
    byte i, got;

    {
        true; /* spin has no label at the beginning of a block */
end_empty:
        write_pos > read_pos;
        atomic { get_lock == 0 || dead[get_lock - 1] -> get_lock = me + 1 }
        if
        :: write_pos > read_pos ->
            got = read_pos;
#ifndef BREAK_OWNER_LATE
            do
            :: i < ring[got].blocks ->
get_owner:
                atomic { owner[ring[got].block[i]] = me + 1; i++ }
            :: i == ring[got].blocks -> break
            od;
#endif
            atomic {
                i = ring[got].blocks - 1;
                assert(whose[ring[got].block[0]] == QUEUE && whose[ring[got].block[i]] == QUEUE);
                whose[ring[got].block[0]] = me + 1;
                whose[ring[got].block[i]] = me + 1;
get_publish:
                read_pos++;
                i = 0
            }
#ifdef BREAK_OWNER_LATE
            do
            :: i < ring[got].blocks -> atomic { owner[ring[got].block[i]] = me + 1; i++ }
            :: i == ring[got].blocks -> break
            od;
            i = 0;
#endif
            get_lock = 0;
            /* fipc_block_release() of each. A record that was got is written over in the real
             * ring; its copy is private. */
            do
            :: i < ring[got].blocks ->
                atomic {
                    assert(owner[ring[got].block[i]] == me + 1);
                    assert(content[ring[got].block[i]] == ring[got].message);
                    ordinal[ring[got].block[i]] = 0
                }
                atomic {
                    assert(owner[ring[got].block[i]] == me + 1);
                    whose[ring[got].block[i]] = FREE;
                    content[ring[got].block[i]] = 0;
block_release:
                    owner[ring[got].block[i]] = 0;
                    i++
                }
            :: i == ring[got].blocks -> break
            od;
            atomic { CLEAR(got); i = 0; got = 0 }
        :: else -> get_lock = 0
        fi;
        goto end_empty
    } MORTAL(me, i = 0; got = 0)
}

#define TO_SWEEP(p) (dead[p] && !swept[p] && (file_lock[p] == 0 || dead[file_lock[p] - 1]))

/* fipc_slots_reap() */
proctype reaper(byte me) {
    byte p, i, seen;

    {
        true; /* spin has no label at the beginning of a block */
end_nobody:
        atomic {
            if
            :: TO_SWEEP(0) -> p = 0
            :: TO_SWEEP(1) -> p = 1
            :: TO_SWEEP(2) -> p = 2
            :: TO_SWEEP(3) -> p = 3
            :: TO_SWEEP(4) && me != 4 -> p = 4
            :: TO_SWEEP(5) && me != 5 -> p = 5
            fi;
            file_lock[p] = me + 1
        }
        do
        :: i < BLOCKS ->
            if
            :: owner[i] == p + 1 ->
again:
                seen = ordinal[i];
                if
                :: seen == 0 -> goto free
                :: else
                fi;
                if
                :: seen >= write_pos -> goto free
                :: else
                fi;
                if
                :: seen < read_pos -> goto free
                :: else
                fi;
#ifdef BREAK_NO_SECOND_LOOK
                goto next;
#endif
                if
                :: ordinal[i] == seen -> goto next
                :: else -> goto again
                fi;
free:
                if
#ifdef BREAK_NO_SWAP
                :: atomic {
                       true ->
#else
                :: atomic {
                       owner[i] == p + 1 ->
#endif
                       assert(whose[i] == p + 1);
                       whose[i] = FREE;
                       content[i] = 0;
sweep_free:
                       owner[i] = 0
                   }
                :: owner[i] != p + 1
                fi
            :: else
            fi;
next:
            atomic { i++; seen = 0 }
        :: i == BLOCKS -> break
        od;
        atomic {
            assert(!IN_HAND(p));
reap_free:
            swept[p] = true;
            file_lock[p] = 0;
            i = 0;
            p = 0
        }
        goto end_nobody
    } MORTAL(me, p = 0; i = 0; seen = 0)
}

/* A record that is queued names blocks that are not free. */
active proctype watcher() {
end_watcher:
    do
    :: atomic {
           (whose[0] == QUEUE && owner[0] == 0) || (whose[1] == QUEUE && owner[1] == 0) ->
           assert(false)
       }
    od
}

init {
    atomic {
        run producer(0, 2, 1);
        if
        :: PRODUCERS == 2 -> run producer(1, 1, 2)
        :: else -> done[1] = true
        fi;
        run consumer(2);
        if
        :: CONSUMERS == 2 -> run consumer(3)
        :: else -> done[3] = true
        fi;
        run reaper(4);
        if
        :: REAPERS == 2 -> run reaper(5)
        :: else -> done[5] = true
        fi
    }
}
