/* lock.pml - the lock that outlives its owner (csrc/lock.c), with the slots that say who lives
 * (csrc/slots.c): processes claim a slot, take the lock, and leave; there are fewer slots than
 * processes, so that the slot of one who was killed is claimed again while its lock word stands.
 *
 * Shows: the lock has one live owner; who unlocks finds his own word; a lock of the dead is
 * taken over; and under fairness everybody who lives comes to his end (`ends`).
 *
 * run kills: -DKILLS=2
 * run wakes: -DKILLS=0 -DRECHECK=0 -DSLOTS=3
 * run ends: -DKILLS=1 -DENDS
 * broken no-recheck: -DKILLS=1 -DRECHECK=0 -> invalid end state
 * broken no-take-over: -DKILLS=1 -DENDS -DBREAK_NO_TAKE_OVER -> acceptance cycle
 * broken generation-ignored: -DKILLS=1 -DENDS -DBREAK_GENERATION_IGNORED -> acceptance cycle
 * broken waiters-forgotten: -DKILLS=0 -DRECHECK=0 -DSLOTS=3 -DBREAK_WAITERS_FORGOTTEN -> invalid end state
 * broken taken-over-by-a-store: -DKILLS=1 -DBREAK_NO_SWAP -> assertion violated
 */
#define PROCS 3
#ifndef SLOTS
#define SLOTS 2
#endif
#include "common.inc"

#define FREE 0
#define USED 1
#define DEAD 2
byte file_lock[SLOTS]; /* the kernel's: process + 1, or 0 */
byte slot_gen[SLOTS];
byte slot_state[SLOTS];

/* Slot + 1 in two bits, generation in three, one bit for "somebody waits". */
#define WAITERS 32
#define WORD(slot, gen) ((slot) + 1 + ((gen) << 2))
#define SLOT_OF(word) (((word) & 3) - 1)
#define GEN_OF(word) (((word) >> 2) & 7)
byte lock;
bool asleep[PROCS]; /* in the kernel, on the lock word */

byte owner = NOBODY; /* who is in the critical section, for the assertions */

proctype user(byte me) {
    byte slot, word, seen;

    {
        /* Enter: the first slot whose file lock is free. */
        atomic {
            if
            :: file_lock[0] == 0 -> slot = 0
            :: file_lock[0] != 0 && file_lock[1] == 0 -> slot = 1
            :: SLOTS == 3 && file_lock[0] != 0 && file_lock[1] != 0 && file_lock[2] == 0 -> slot = 2
            fi;
claim_lock: file_lock[slot] = me + 1
        }
        if
        :: slot_state[slot] != FREE ->
sweep_mark: slot_state[slot] = DEAD
        :: else
        fi;
claim_gen:
        atomic { slot_gen[slot]++; word = WORD(slot, slot_gen[slot]); assert(slot_gen[slot] < 8) }
claim_state:
        slot_state[slot] = USED;

        /* fipc_lock_try() */
        if
        :: atomic { lock == 0 -> lock = word; goto owned }
        :: lock != 0
        fi;
        /* fipc_lock_wait() */
wait:
        seen = lock;
        if
        :: (seen & ~WAITERS) == 0 ->
            if
#ifdef BREAK_WAITERS_FORGOTTEN
            :: atomic { lock == seen -> lock = word; goto owned }
#else
            :: atomic { lock == seen -> lock = word | WAITERS; goto owned }
#endif
            :: lock != seen -> goto wait
            fi
        :: (seen & ~WAITERS) != 0 && !(seen & WAITERS) ->
            if
            :: atomic { lock == seen -> lock = lock | WAITERS; seen = lock }
            :: lock != seen -> goto wait
            fi
        :: else
        fi;
        atomic { asleep[me] = (lock == seen) }
        if
        :: !asleep[me] -> goto wait /* woken, or the word had changed */
        :: atomic { RECHECK && asleep[me] -> asleep[me] = false } /* the slice has ended */
        fi;
        if
        :: lock != seen -> goto wait
        :: else
        fi;
        /* fipc_slots_lock_owner_is_alive() */
        if
#ifndef BREAK_GENERATION_IGNORED
        :: slot_gen[SLOT_OF(seen)] != GEN_OF(seen) -> goto ownerless
#endif
        :: else
        fi;
        if
        :: slot_state[SLOT_OF(seen)] != USED -> goto ownerless
        :: else
        fi;
        if
        :: file_lock[SLOT_OF(seen)] != 0 -> goto wait
        :: else
        fi;
ownerless:
#ifdef BREAK_NO_TAKE_OVER
        goto wait;
#endif
        if
        :: atomic {
#ifdef BREAK_NO_SWAP
               true ->
#else
               lock == seen ->
#endif
lock_take_over:
               lock = word | WAITERS
           }
        :: lock != seen -> goto wait
        fi;
owned:
        atomic { assert(owner == NOBODY || dead[owner]); owner = me }
        atomic { assert(owner == me); owner = NOBODY }
lock_release:
        atomic { assert((lock & ~WAITERS) == word); seen = lock; lock = 0 }
        if
        :: seen & WAITERS ->
            atomic {
                if
                :: asleep[0] -> asleep[0] = false
                :: asleep[1] -> asleep[1] = false
                :: asleep[2] -> asleep[2] = false
                :: else
                fi
            }
        :: else
        fi;

        /* Leave. */
slot_release:
        slot_state[slot] = FREE;
        atomic { file_lock[slot] = 0; done[me] = true; slot = 0; word = 0; seen = 0 }
    } MORTAL(me, if :: file_lock[0] == me + 1 -> file_lock[0] = 0
                    :: file_lock[1] == me + 1 -> file_lock[1] = 0
                    :: SLOTS == 3 && file_lock[2] == me + 1 -> file_lock[2] = 0
                    :: else fi;
                 asleep[me] = false; slot = 0; word = 0; seen = 0)
}

init {
    atomic { run user(0); run user(1); run user(2) }
}

#ifdef ENDS
#define ENDED(p) (dead[p] || done[p])
ltl ends { <> (ENDED(0) && ENDED(1) && ENDED(2)) }
#endif
