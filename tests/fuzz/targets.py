"""The fuzzers: what each is built of, and which lines are the decoders that it has to reach."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ROOT

# What stands between the core and the operating system in all builds of the fuzzers of csrc/.
WRAPPED = (
    "now_ns",
    "coarse_now_ns",
    "wait_word",
    "poll",
    "cpu_count",
    "room_spare",
    "map",
    "unmap",
)


@dataclass(frozen=True)
class Decoder:
    """A file, or some functions of it, that read what another process may have written."""

    path: str
    reason: str
    functions: tuple[str, ...] = ()  # none: all of the file but these:
    left_out: dict[str, str] = field(default_factory=dict)  # each function with the reason


@dataclass(frozen=True)
class Break:
    """A check that --prove leaves out, and how the fuzzer has to report that."""

    macro: str
    found_as: str  # how libFuzzer's file is called: crash or timeout
    what: str


@dataclass(frozen=True)
class Target:
    """One fuzzer."""

    name: str
    what: str
    sources: tuple[str, ...]
    embeds_python: bool
    breaks: tuple[Break, ...]
    # Lines of the decoders that a minute of CPU time has to reach; ten minutes have to reach 95 %.
    least_percent_of_a_minute: float
    decoders: tuple[Decoder, ...] = field(default=())


IN_THE_CORE = (
    Decoder("csrc/channel_get.c", "finds records, checks them and the blocks that they name"),
    Decoder(
        "csrc/channel_batch.c",
        "takes many records at once, and reads them back out of the copy",
        ("take_blocks", "fipc_many_take", "read_frame", "fipc_many_peek", "release_refs",
         "fipc_many_drop"),
    ),
    Decoder(
        "csrc/channel_fast.h",
        "takes a record where nothing is in the way",
        ("fipc_channel_get_fast",),
    ),
    Decoder("csrc/channel.c", "looks a ring up that a position or a link names",
            ("fipc_ring_load", "fipc_channel_map", "fipc_channel_is_empty",
             "fipc_channel_depth")),
    Decoder("csrc/channel_shut.c", "frees what was given up, record by record",
            ("own_blocks", "discard_locked", "fipc_channel_discard")),
    Decoder("csrc/channel_stream.c", "steps over a record that was found",
            ("fipc_channel_advance",)),
    Decoder("csrc/channel_check.c", "walks all records"),
    Decoder("csrc/conn_recv.c", "receives messages, whole and in fragments",
            ("take_record", "look_locked", "look_once", "try_take", "try_recv_once",
             "take_fragment", "recv_step", "fipc_conn_recv_begin", "fipc_conn_recv_into",
             "fipc_conn_recv_keep", "fipc_conn_recv_drop", "fipc_conn_poll", "ask_for_sender")),
    Decoder("csrc/arena.c", "looks groups and blocks up",
            ("fipc_group_dir", "fipc_group_count", "fipc_group_find", "fipc_group_map",
             "is_possible", "find_place", "fipc_block_find", "fipc_block_map")),
    Decoder("csrc/arena_sweep.c", "decides who owns a block",
            ("get_base", "is_queued", "sweep_block", "sweep_group", "fipc_arena_check")),
    Decoder("csrc/segment.c", "attaches to a segment, and checks each place in it",
            ("chunk_of", "fipc_segment_peek", "refresh_length", "fipc_segment_at",
             "fipc_segment_open")),
    Decoder("csrc/slots.c", "reads slot numbers out of words",
            ("slot_high", "fipc_slots_is_alive", "fipc_slots_lock_owner_is_alive")),
    Decoder("csrc/side.h", "reads a side's state",
            ("fipc_side_current", "fipc_side_read", "fipc_side_read_pos")),
    Decoder("csrc/record.h", "reads a record's header", ("fipc_record_read",)),
    Decoder("csrc/channel.h", "steps through the records of a batch",
            ("fipc_many_step", "fipc_many_next_inline")),
)  # fmt: skip

AT_IMPORT = "runs at import, which is before the first input"
ENCODES = "asks about an object that is to be sent"

IN_THE_EXTENSION = (
    Decoder("fastipc/_codec_decode.c", "bytes to objects"),
    Decoder("fastipc/_codec_reader.h", "single values"),
    Decoder("fastipc/_codec_dicts.h", "dicts"),
    Decoder(
        "fastipc/_codec_shapes.c",
        "reads headers of instances, and makes these",
        left_out={"fastipc_shapes_init": AT_IMPORT},
    ),
    # fastipc_instance_read() is the encoder's, too, and counts as a whole.
    Decoder(
        "fastipc/_instances.c",
        "puts values that were read where an instance keeps them",
        left_out={"read_dict": ENCODES},
    ),
    Decoder(
        "fastipc/_classes.c",
        "finds the class that a message names, and whether its code has a say",
        left_out={
            "learn_true_dict": AT_IMPORT,
            "fastipc_classes_init": AT_IMPORT,
            "is_in": ENCODES,
            "fastipc_class_is_registered": ENCODES,
            "is_name": ENCODES,
            "fastipc_class_name": ENCODES,
        },
    ),
    Decoder("fastipc/_int_runs.c", "ints of a batch", ("fastipc_many_make_ints",)),
)

DECLARES = "declares; code stands in the file of the same name, or is what these files use"
PUTS = "puts; what it reads of a side goes through side.h, of a block through arena.c"
WORDS = "reads single words of which each value has a meaning, and follows none of them"
LOCAL = "decides nothing by what lies in shared memory"

# All other files of the core and of the extension, and why they are no decoders. A file that is in
# neither list fails a test.
NO_DECODERS = {
    **dict.fromkeys(
        ("csrc/arena.h", "csrc/arena_internal.h", "csrc/channel_internal.h", "csrc/conn.h",
         "csrc/conn_internal.h", "csrc/copy.h", "csrc/hold.h", "csrc/layout.h", "csrc/lock.h",
         "csrc/os.h", "csrc/os_room.h", "csrc/queue.h", "csrc/queue_internal.h", "csrc/segment.h",
         "csrc/slots.h", "csrc/stats.h", "csrc/wait.h", "fastipc/_classes.h", "fastipc/_codec.h",
         "fastipc/_codec_headers.h", "fastipc/_codec_shapes.h", "fastipc/_dict_copies.h",
         "fastipc/_instances.h", "fastipc/_int_runs.h", "fastipc/_reducers.h"),
        DECLARES,
    ),
    **dict.fromkeys(
        ("csrc/queue_put.c", "csrc/queue_batch.c", "csrc/conn_send.c"),
        PUTS,
    ),
    **dict.fromkeys(
        ("csrc/lock.c", "csrc/wait.c", "csrc/stats.c", "csrc/arena_take.c"),
        WORDS,
    ),
    **dict.fromkeys(
        ("csrc/atomics.h", "csrc/base.h", "csrc/copy.c", "csrc/os_linux.c", "csrc/os_room.c",
         "fastipc/_dict_copies.c", "fastipc/_lists.h", "fastipc/_reducers.c", "fastipc/_scalars.h"),
        LOCAL,
    ),
    **dict.fromkeys(
        ("fastipc/_codec_encode.c", "fastipc/_codec_headers.c", "fastipc/_codec_values.h"),
        "writes messages",
    ),
    "csrc/queue.c": "life, waiting and tasks of a queue; a get reads through channel_get.c",
    "csrc/queue_shut.c": "the end of a stream; what is freed goes through channel_shut.c",
    "csrc/conn.c": "life and turns of a connection; receiving is conn_recv.c's",
    "csrc/conn_wait.c": "a receiver's waiting; what is there is conn_recv.c's to see",
    "csrc/hold.c": "counts blocks in memory of its own that conn_recv.c and channel_get.c found",
}  # fmt: skip

# Lines of decoders that are left out of the count, by a part of their text: why. None so far.
UNREACHABLE: dict[str, dict[str, str]] = {}

RECORD_LENGTH = Break(
    "FASTIPC_BREAK_RECORD_LENGTH", "crash", "a record's length against the end of its ring"
)
RING_BOUND = Break(
    "FASTIPC_BREAK_RING_BOUND", "timeout", "how far one look at write_pos leads around a ring"
)
CODED_LENGTH = Break(
    "FASTIPC_BREAK_CODED_LENGTH", "crash", "a value's length against the end of its message"
)

CORE = ("tests/fuzz/world.c", "tests/fuzz/scenes.c", "tests/fuzz/system.c",
        "tests/fuzz/queue_operations.c", "tests/fuzz/pipe_operations.c")  # fmt: skip

TARGETS = {
    target.name: target
    for target in (
        Target(
            "records",
            "a segment with the fuzzer's bytes over its records, words and descriptors",
            (*CORE, "tests/fuzz/fuzz_records.c"),
            False,
            (RECORD_LENGTH, RING_BOUND),
            93.5,  # seen: 94.7 to 95.2; the seeds alone reach 94.0, in the same way each time
            IN_THE_CORE,
        ),
        Target(
            "codec",
            "messages as the extension gets them: coded, in blocks, in batches; handles",
            ("tests/fuzz/fuzz_codec.c",),
            True,
            (CODED_LENGTH,),
            96.0,  # seen: 97.4
            IN_THE_EXTENSION,
        ),
        Target(
            "scribble",
            "a segment that another thread scribbles over while it is used",
            (*CORE, "tests/fuzz/fuzz_scribble.c"),
            False,
            (RECORD_LENGTH, RING_BOUND),
            92.5,  # seen: 94.0 and 95.0, of the seeds alone 94.2: threads meet as chance has it
            IN_THE_CORE,
        ),
    )
}


def core_sources() -> list[Path]:
    """All of csrc/."""
    return sorted((ROOT / "csrc").glob("*.c"))


def extension_sources() -> list[Path]:
    """The extension's C that is written by hand."""
    found = sorted((ROOT / "fastipc").glob("_*.c"))
    return [path for path in found if not path.with_suffix(".pyx").exists()]


def function_lines(path: Path) -> list[tuple[str, int, int]]:
    """Each function of a C file, formatted as ours are: name, first and last line."""
    found, name, first = [], "", 0
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_].*\(", line) and not line.endswith(";") and not line.startswith("#"):
            match = re.search(r"([A-Za-z_0-9]+)\((?!\()", line.replace("__attribute__((", "("))
            names = re.findall(r"([A-Za-z_0-9]+)\(", line)
            names = [one for one in names if not one.startswith("__") and one not in ("cold",)]
            if match and names:
                name, first = names[0], number
        elif line == "}" and name:
            found.append((name, first, number))
            name = ""
    return found
