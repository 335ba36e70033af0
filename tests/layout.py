"""Where the fields of a queue lie in its memory file, by the tables of csrc/PROTOCOL.md; reads and
writes them there, as any process that has the queue can.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from tests.support import ROOT

_TEXT = (ROOT / "csrc" / "PROTOCOL.md").read_text("utf-8")


def _in_table(text: str, name: str) -> int:
    found = re.search(rf"^\| `{name}` \| (\d+) \|", text, re.M)
    assert found, f"PROTOCOL.md does not say where {name} is"
    return int(found[1])


def _in_struct(struct: str, name: str) -> int:
    return _in_table(_TEXT.partition(f"### `{struct}`")[2].partition("### ")[0], name)


def offset_of(name: str, field: str | None = None) -> int:
    """Where a field of the first channel begins; or, of one of its sides, a field of that."""
    base = _in_table(_TEXT, "FIPC_OFF_CHANNEL0") + _in_struct("fipc_channel_shm", name)
    return base if field is None else base + _in_struct("fipc_side_shm", field)


def word(handle: Any, name: str, field: str | None = None) -> int:
    """Four bytes of a field; of a side without a field: its lock."""
    return int.from_bytes(os.pread(handle._handles()[0], 4, offset_of(name, field)), sys.byteorder)


def set_word(handle: Any, value: int, name: str, field: str | None = None) -> None:
    """Writes four bytes of a field."""
    content = value.to_bytes(4, sys.byteorder)
    assert os.pwrite(handle._handles()[0], content, offset_of(name, field)) == 4
