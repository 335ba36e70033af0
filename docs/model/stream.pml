/* stream.pml - a Pipe's messages and its end of stream (csrc/conn_send.c, csrc/conn_recv.c,
 * csrc/conn.c): sender 0 sends a message in two fragments behind the send turn, sender 1 a small
 * one; both hold the write end of the life line and close it. A reader sleeps in poll(2) on that
 * pipe, receives until the end, or closes its own end before.
 *
 * Shows: fragments of two messages never mix; a message that was sent whole is received, once,
 * unless its receiver was killed with it; the end is reported when nobody can send any more and
 * all that was sent has been received; and when nothing moves any more, nobody waits for what will
 * not come: not the reader in the middle of a dead sender's message, not a sender for room in a
 * pipe that nobody reads, not anybody for the turn of the dead.
 *
 * With SINGLE one sender sends both messages, the small one first, or only the other.
 *
 * run end: -DKILLS=0 -DRECHECK=0
 * run end-kills: -DKILLS=1
 * run readers: -DREADERS=2 -DSINGLE -DKILLS=0 -DRECHECK=0
 * run readers-kills: -DREADERS=2 -DSINGLE -DBEGINS=FIRST -DKILLS=1
 * run close: -DCLOSES -DKILLS=0 -DRECHECK=0
 * run close-kills: -DCLOSES -DSINGLE -DKILLS=1
 * broken no-recheck: -DKILLS=1 -DRECHECK=0 -> assertion violated
 * broken close-not-asked-for: -DCLOSES -DKILLS=0 -DRECHECK=0 -DBREAK_CLOSE_UNSEEN -> invalid end state
 * broken bell-not-passed-on: -DREADERS=2 -DSINGLE -DKILLS=0 -DRECHECK=0 -DBREAK_BELL_KEPT -> assertion violated
 * broken end-without-a-look: -DKILLS=0 -DBREAK_NO_LAST_LOOK -> assertion violated
 * broken turn-ignored: -DKILLS=0 -DBREAK_TURN_IGNORED -> assertion violated
 * broken rest-taken: -DREADERS=2 -DSINGLE -DBEGINS=FIRST -DKILLS=1 -DBREAK_REST_TAKEN -> assertion violated
 */
#define PROCS 4
#ifndef READERS
#define READERS 1
#endif
#ifdef CLOSES
#define ROOM 1 /* records that the ring holds */
#else
#define ROOM 6
#endif
#define RECORDS 6
#include "common.inc"

#ifdef BREAK_CLOSE_UNSEEN /* a sender who is about to wait for room does not look at the epoch */
#define CLOSE_UNSEEN true
#else
#define CLOSE_UNSEEN false
#endif
#ifndef BEGINS
#define BEGINS INLINE /* what it sends first */
#endif
#ifdef SINGLE /* one sender sends both messages */
#define ONE_SENDER true
#else
#define ONE_SENDER false
#endif
#define INLINE 1
#define FIRST 2
#define LAST 3
#define ABANDON 4
byte kind[RECORDS], from[RECORDS]; /* from: which message */
byte write_pos, read_pos;
byte put_lock, get_lock;         /* process + 1, or 0 */
byte send_turn, recv_turn;       /* likewise */
bool reader_marked, sender_marked; /* sleepers words; wake.pml has them in full */
byte close_epoch;

/* The kernel's. Senders are 0 and 1, readers 2 and 3. */
bool slot_held[PROCS]; /* the slot's file lock */
bool open[PROCS];      /* an end of the life line */
byte bell;             /* bytes in it */
bool woken[2];         /* a sender's sleep for room has ended */

bool sent[2], received[2]; /* whole messages, for the assertions */
bool in_message[PROCS];    /* a reader has received the beginning of one */

#define EMPTY (write_pos == read_pos)
#define TAKE(lock) atomic { lock == 0 || dead[lock - 1] -> lock = me + 1 }
#define PUBLISH(record_kind)                                                                     \
    kind[write_pos] = record_kind;                                                               \
    from[write_pos] = (record_kind == INLINE -> 1 : 0);                                          \
    write_pos++

/* What nobody reads again is cleared, so that states that differ in it count as one. */
#define TAKEN                                                                                    \
    kind[read_pos] = 0;                                                                          \
    from[read_pos] = 0;                                                                          \
    read_pos++

#ifdef BREAK_TURN_IGNORED
#define TURN_IGNORED true
#else
#define TURN_IGNORED false
#endif

/* After a publish and its unlock. */
inline wake_readers() {
    if
    :: reader_marked ->
       reader_marked = false;
       atomic { bell++; assert(bell < 8) }
    :: else
    fi
}

/* Takes a dead owner's turn, and says that its message is over. */
#define TAKE_DEAD_TURN(label)                                                                    \
    if                                                                                           \
    :: send_turn == seen ->                                                                      \
label:                                                                                           \
       send_turn = me + 1;                                                                       \
       atomic { PUBLISH(ABANDON); put_lock = 0 }                                                 \
       wake_readers()                                                                            \
    :: else -> put_lock = 0; seen = 0                                                            \
    fi

proctype sender(byte me; byte first_kind) {
    byte seen, seen_epoch, epoch, next = first_kind;
    bool marked;

    {
        do
        :: next != 0 ->
            /* look_for_reader(): now and then, and always when the epoch has moved */
            epoch = close_epoch;
            if
            :: !open[2] && !open[3] -> break /* -EPIPE */
            :: seen_epoch == epoch
            :: seen_epoch != epoch && (open[2] || open[3]) ->
               seen_epoch = epoch /* not reached: with one reader its end is open, or the epoch old */
            fi;
            TAKE(put_lock);
            if
            :: send_turn != 0 && send_turn != me + 1 && !TURN_IGNORED ->
               atomic { seen = send_turn; put_lock = 0 }
               /* fipc_turn_wait(): woken when it is given back, or asks who lives */
               if
               :: seen == 0 || send_turn != seen
               :: RECHECK && seen != 0 && send_turn == seen && !slot_held[seen - 1] ->
                  TAKE(put_lock);
                  TAKE_DEAD_TURN(send_turn_take_2); /* not reached: a third sender was quicker */
                  if
                  :: seen != 0 && next == INLINE -> send_turn = 0
                  :: else
                  fi
               fi;
               seen = 0
            :: next == LAST && send_turn == me + 1 ->
               /* fipc_conn_send_abandon(): an exception in the middle of the message. Where there
                * is no room, or the lock cannot be had, the turn alone says so. */
               if
               :: write_pos - read_pos < ROOM + 1 -> atomic { PUBLISH(ABANDON); put_lock = 0 }
                  wake_readers()
               :: RECHECK -> put_lock = 0
               fi;
               atomic { send_turn = 0; next = 0 }
            :: send_turn == 0 || send_turn == me + 1 || TURN_IGNORED ->
               if
               :: next == FIRST && send_turn == 0 ->
send_turn_take:
                  send_turn = me + 1
               :: else
               fi;
               if
               :: write_pos - read_pos < ROOM ->
                  atomic {
                      if
                      :: next == LAST -> sent[0] = true
                      :: next == INLINE -> sent[1] = true
                      :: next == FIRST
                      fi;
put_publish:
                      PUBLISH(next)
                  }
                  if
                  :: next == LAST && send_turn == me + 1 ->
turn_end:
                     send_turn = 0
                  :: true
                  fi;
lock_release:
                  put_lock = 0;
                  wake_readers();
                  if
                  :: atomic {
                         next == LAST && send_turn == me + 1 ->
turn_release:
                         send_turn = 0
                     }
                  :: else
                  fi;
                  if
                  :: next == FIRST -> next = LAST
                  :: next == INLINE && ONE_SENDER -> next = FIRST
                  :: else -> next = 0
                  fi
               :: else ->
                  put_lock = 0;
                  /* wait_for_room() */
                  atomic { sender_marked = true; woken[me] = false }
                  if
                  :: write_pos - read_pos < ROOM
                  :: seen_epoch != close_epoch && !CLOSE_UNSEEN
                  :: else ->
                     if
                     :: woken[me]
                     :: RECHECK && (write_pos - read_pos < ROOM || (!open[2] && !open[3]))
                     fi
                  fi;
                  woken[me] = false
               fi
            fi
        :: next == 0 -> break
        od;
        /* Close, also after -EPIPE. */
        atomic {
            if
            :: send_turn == me + 1 -> send_turn = 0
            :: else
            fi
        }
#ifndef CLOSES
        /* Or nothing more is sent, and the end stays open. */
        if
        :: me == 1 || ONE_SENDER ->
end_idle:
           false
        :: true
        fi;
#endif
        open[me] = false;
        atomic { slot_held[me] = false; done[me] = true; next = 0 }
    } unless {
        /* The kernel's order is not ours to rely on. */
        atomic { dead[me]; seen = 0; seen_epoch = 0; epoch = 0; next = 0; woken[me] = false }
        if
        :: slot_held[me] = false; open[me] = false
        :: open[me] = false; slot_held[me] = false
        fi
    }
}

#define GOT(p)                                                                                   \
    assert(!received[p]);                                                                        \
    received[p] = true

proctype reader(byte me) {
    byte seen, whose = NOBODY;
    bool rang, drained, ended;

    {
        do
        :: ended -> break
        :: else ->
            TAKE(get_lock);
            seen = recv_turn;
            if
            :: seen != 0 && seen != me + 1 ->
               get_lock = 0;
#ifndef BREAK_BELL_KEPT
               /* fipc_conn_pass_bell_on() */
               if
               :: drained && reader_marked && !EMPTY -> atomic { bell++; assert(bell < 8) }
               :: else
               fi;
               drained = false;
#endif
               if
               :: recv_turn != seen
               :: RECHECK && recv_turn == seen && !slot_held[seen - 1] ->
                  TAKE(get_lock);
                  if
                  :: recv_turn == seen ->
turn_take_over:
                     recv_turn = 0
                  :: else
                  fi;
                  get_lock = 0
               fi
            :: (seen == 0 || seen == me + 1) && !EMPTY ->
               if
               :: kind[read_pos] == INLINE && whose == NOBODY ->
                  atomic {
                      GOT(from[read_pos]);
get_publish:
                      TAKEN
                  }
               :: kind[read_pos] == FIRST && whose == NOBODY ->
                  if
                  :: seen == 0 ->
recv_turn_take:
                     recv_turn = me + 1
                  :: else
                  fi;
                  atomic { whose = from[read_pos]; in_message[me] = true; TAKEN }
               :: kind[read_pos] == LAST && whose != NOBODY ->
                  atomic {
                      assert(from[read_pos] == whose);
                      GOT(whose);
                      whose = NOBODY;
                      in_message[me] = false;
                      TAKEN
                  }
recv_turn_end:
                  recv_turn = 0
               :: (kind[read_pos] == LAST || kind[read_pos] == ABANDON) && whose == NOBODY ->
#ifdef BREAK_REST_TAKEN
                  atomic { GOT(from[read_pos]); assert(kind[read_pos] == INLINE); TAKEN }
#else
                  atomic { TAKEN } /* its beginning went to somebody who is dead */
#endif
               :: kind[read_pos] != LAST && whose != NOBODY ->
                  /* -ECANCELED: the rest will never come. */
                  atomic { whose = NOBODY; in_message[me] = false; recv_turn = 0 }
               fi;
               get_lock = 0;
               /* after_taking(): a sender who waits for room */
               if
               :: sender_marked -> atomic { sender_marked = false; woken[0] = true; woken[1] = true }
               :: else
               fi;
               /* fipc_conn_pass_bell_on() */
               if
               :: drained && reader_marked && !EMPTY -> atomic { bell++; assert(bell < 8) }
               :: else
               fi;
               drained = false;
#ifdef CLOSES
               if
               :: ended = true
               :: true
               fi
#endif
            :: (seen == 0 || seen == me + 1) && EMPTY ->
               get_lock = 0;
               /* ask_for_sender() of the turn's word alone */
               if
               :: whose != NOBODY && send_turn == 0 && EMPTY ->
                  atomic { whose = NOBODY; in_message[me] = false; recv_turn = 0 }
               :: else ->
                  /* fipc_conn_wait_for_record() */
                  if
                  :: rang ->
                     rang = false;
                     if
                     :: atomic { bell > 0 -> bell = 0; drained = true }
                        reader_marked = true
                     :: bell == 0
                     fi
                  :: else
                  fi;
                  reader_marked = true;
                  if
                  :: !EMPTY
                  :: EMPTY ->
end_poll:
                     if
                     :: !open[0] && !open[1] ->
#ifdef BREAK_NO_LAST_LOOK
                        ended = true
#else
                        if
                        :: EMPTY -> ended = true
                        :: else
                        fi
#endif
                     :: (open[0] || open[1]) && bell > 0 -> rang = true
                     :: RECHECK && !EMPTY
                     :: atomic {
                            RECHECK && whose != NOBODY && EMPTY &&
                            (send_turn == 0 || !slot_held[send_turn - 1]) ->
                            whose = NOBODY;
                            in_message[me] = false;
                            recv_turn = 0
                        }
                     fi
                  fi
               fi
            fi;
            seen = 0
        od;
#ifdef CLOSES
#define AT_END(p) true
#else
#define AT_END(p) (!sent[p] || received[p] || dead[2] || dead[3])
#endif
        assert(AT_END(0) && AT_END(1));
        atomic {
            if
            :: recv_turn == me + 1 -> recv_turn = 0
            :: else
            fi
        }
        open[me] = false;
close_epoch_1:
        close_epoch++;
        if
        :: sender_marked -> atomic { sender_marked = false; woken[0] = true; woken[1] = true }
        :: else
        fi;
        atomic { slot_held[me] = false; done[me] = true; in_message[me] = false; whose = 0 }
    } unless {
        atomic { dead[me]; seen = 0; whose = 0; in_message[me] = false; rang = false }
        if
        :: slot_held[me] = false; open[me] = false
        :: open[me] = false; slot_held[me] = false
        fi
    }
}

active proctype watcher() {
end_watcher:
    timeout;
    assert(!in_message[2] && !in_message[3]);
    assert(EMPTY || (!open[2] && !open[3]))
}

init {
    atomic {
        open[0] = true; open[1] = true; open[2] = true;
        slot_held[0] = true; slot_held[1] = true; slot_held[2] = true;
#ifdef SINGLE
        run sender(0, BEGINS);
        open[1] = false;
        slot_held[1] = false;
        done[1] = true;
#else
        run sender(0, FIRST);
        run sender(1, INLINE);
#endif
        run reader(2);
        if
        :: READERS == 2 -> open[3] = true; slot_held[3] = true; run reader(3)
        :: else -> done[3] = true
        fi
    }
}
