"""The types of what queues and pipes encode with."""

from typing import Any, Protocol, type_check_only

from typing_extensions import Buffer

@type_check_only
class Serializer(Protocol):
    """What `serializer=` takes."""

    def dumps(self, obj: Any, /) -> Buffer: ...
    def loads(self, data: memoryview, /) -> Any: ...

PICKLE: Serializer

def checked(serializer: Serializer | None) -> Serializer | None: ...
def packed(serializer: Serializer | None) -> Any: ...
def unpacked(travelled: Any) -> Serializer | None: ...
