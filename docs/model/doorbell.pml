/* doorbell.pml - the armed doorbell (csrc/channel.c, csrc/channel_shut.c): a producer puts two
 * records, another one shuts the queue down, two call fileno(), and two consumers poll the
 * doorbell, get, and silence it where they find nothing.
 *
 * Shows: once armed, "a record is there", and "it is shut down", imply "the doorbell is readable"
 * after every single step, whoever is killed; and when nothing moves any more, no consumer is
 * left at a doorbell that is readable, so that a byte too many never makes anybody spin.
 *
 * run kills: -DKILLS=2
 * run shutdown: -DKILLS=1 -DSHUTDOWN
 * broken published-first: -DKILLS=0 -DBREAK_PUBLISHED_FIRST -> assertion violated
 * broken token-without-the-lock: -DKILLS=0 -DBREAK_NO_LOCK -> assertion violated
 * broken token-before-the-byte: -DKILLS=1 -DSHUTDOWN -DBREAK_TOKEN_FIRST -> assertion violated
 * broken drained-before-the-token: -DKILLS=1 -DBREAK_DRAINED_FIRST -> assertion violated
 * broken armed-before-the-byte: -DKILLS=0 -DBREAK_ARMED_FIRST -> assertion violated
 */
#define PROCS 5
#define RECORDS 2
#define BELL_MOST 6
#include "common.inc"

byte put_lock, get_lock; /* process + 1, or 0 */
byte write_pos, read_pos;
bool armed, shut, token;
byte bell; /* bytes in the kernel pipe */

#define TAKE(lock) atomic { lock == 0 || dead[lock - 1] -> lock = me + 1 }
#define RING atomic { bell++; assert(bell < BELL_MOST) }

/* Writes the byte for a record, or for the shutdown, if there is none. */
#ifdef BREAK_TOKEN_FIRST
#define PUT_TOKEN(label)                                                                         \
    if                                                                                           \
    :: armed && !token ->                                                                        \
label:                                                                                           \
       token = true;                                                                             \
       RING                                                                                      \
    :: else                                                                                      \
    fi
#else
#define PUT_TOKEN(label)                                                                         \
    if                                                                                           \
    :: armed && !token ->                                                                        \
       RING;                                                                                     \
label:                                                                                           \
       token = true                                                                              \
    :: else                                                                                      \
    fi
#endif

proctype producer(byte me) {
    byte left = RECORDS;

    {
        do
        :: left > 0 ->
            TAKE(put_lock);
            if
            :: shut -> left = 1
            :: else ->
#ifdef BREAK_PUBLISHED_FIRST
               write_pos++;
               PUT_TOKEN(put_token)
#else
               PUT_TOKEN(put_token);
put_publish:
               write_pos++
#endif
            fi;
lock_release:
            atomic { put_lock = 0; left-- }
        :: left == 0 -> break
        od;
        atomic { done[me] = true; left = 0 }
    } MORTAL(me, left = 0)
}

proctype shutter(byte me) {
    {
        TAKE(put_lock);
        PUT_TOKEN(put_token);
shut_put:
        shut = true;
        put_lock = 0;
        done[me] = true
    } MORTAL(me, skip)
}

/* fileno() */
proctype armer(byte me) {
    {
        TAKE(put_lock);
#ifdef BREAK_ARMED_FIRST
        armed = true;
#endif
        if
        :: shut || write_pos != read_pos ->
           RING;
arm_token:
           token = true
        :: else
        fi;
arm_armed:
        armed = true;
        put_lock = 0;
        done[me] = true
    } MORTAL(me, skip)
}

/* fipc_channel_disarm_if_empty() */
#ifdef BREAK_NO_LOCK
#define TAKE_TO_SILENCE skip
#define GIVE_BACK skip
#else
#define TAKE_TO_SILENCE TAKE(put_lock)
#define GIVE_BACK put_lock = 0
#endif
#ifdef BREAK_DRAINED_FIRST
#define SILENCE(label)                                                                           \
    TAKE_TO_SILENCE;                                                                             \
    if                                                                                           \
    :: !shut && write_pos == read_pos ->                                                         \
       bell = 0;                                                                                 \
label:                                                                                           \
       token = false                                                                             \
    :: else                                                                                      \
    fi;                                                                                          \
    GIVE_BACK
#else
#define SILENCE(label)                                                                           \
    TAKE_TO_SILENCE;                                                                             \
    if                                                                                           \
    :: !shut && write_pos == read_pos ->                                                         \
label:                                                                                           \
       token = false;                                                                            \
       bell = 0                                                                                  \
    :: else                                                                                      \
    fi;                                                                                          \
    GIVE_BACK
#endif

/* A program's loop around a selector. */
proctype consumer(byte me) {
    byte pos;

    {
        true; /* spin has no label at the beginning of a block */
end_unarmed:
        armed; /* after a fileno() of its own, or another's */
end_poll:
        bell > 0;
        TAKE(get_lock);
        pos = write_pos;
        if
        :: pos > read_pos ->
get_publish:
           read_pos++;
           /* Under the get lock too; where the producer is slow, it stays as it is. */
           if
           :: write_pos == read_pos -> SILENCE(drain_token)
           :: true
           fi;
           atomic { get_lock = 0; pos = 0 }
        :: else ->
           atomic { get_lock = 0; pos = 0 }
           if
           :: shut && write_pos == read_pos -> goto ended
           :: else
           fi;
           SILENCE(drain_token_2)
        fi;
        goto end_poll;
ended:
        done[me] = true
    } MORTAL(me, pos = 0)
}

#define READABLE (!armed || bell > 0 || (write_pos == read_pos && !shut))
active proctype watcher() {
end_watcher:
    do
    :: atomic { !READABLE -> assert(false) }
    :: atomic { timeout -> assert(bell == 0 || shut || (dead[3] && dead[4]) || !armed); break }
    od
}

init {
    atomic {
        run producer(0);
        run armer(1);
        run consumer(3);
        run consumer(4);
#ifdef SHUTDOWN
        run shutter(2)
#else
        done[2] = true
#endif
    }
}
