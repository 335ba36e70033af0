"""A process without memory for a message: get() and its kin raise MemoryError, and the message
stays the first of those that are taken next.
"""

from __future__ import annotations

import pytest


def test_get_many_without_memory_for_an_item_loses_nothing(run_program):
    run_program(
        """
        import resource
        import fastipc

        queue = fastipc.Queue()
        large = b"l" * 2**27
        queue.put_many([1, large, 3])
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, before[1]))
        for _ in range(2):
            try:
                queue.get_many(10)
            except MemoryError:
                assert queue.qsize() == 3
            else:
                raise AssertionError("there was enough memory")
        resource.setrlimit(resource.RLIMIT_AS, before)
        assert queue.get_many(10) == [1, large, 3]
        assert queue.empty()
        """
    )


@pytest.mark.parametrize("take", ["get", "get_bytes", "get_bytes_into", "get_many"])
@pytest.mark.parametrize("kept", ["nothing", "a message", "a batch", "a message and a batch"])
@pytest.mark.parametrize("kind", ["bytes", "buffers", "serialized"])
def test_a_message_for_which_there_is_no_memory_stays_the_first(run_program, kind, kept, take):
    run_program(
        """
        import resource
        import sys
        import fastipc
        from tests.unit.targets import Buffered

        kind, kept, take = sys.argv[1:]

        def refuse(data):
            raise LookupError("on purpose")

        class Refused:
            def __reduce__(self):
                return refuse, (b"refused",)

        class Refusing:
            def dumps(self, obj):
                return b"refused" if isinstance(obj, Refused) else obj

            def loads(self, data):
                return refuse(data) if bytes(data[:7]) == b"refused" else bytes(data)

        class Limit:
            def __enter__(self):
                with open("/proc/self/statm") as file:
                    used = int(file.read().split()[0]) * resource.getpagesize()
                self.before = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, self.before[1]))

            def __exit__(self, *_):
                resource.setrlimit(resource.RLIMIT_AS, self.before)

        # copy: so that no view is enough for get().
        options = {"serializer": Refusing()} if kind == "serialized" else {}
        queue = fastipc.Queue(copy=True, **options)
        large = bytearray(b"l" * 2**25) if kind == "buffers" else b"l" * 2**25
        items = [Buffered(large) if kind == "buffers" else large, b"4", b"5"]
        takes = {
            "get": queue.get,
            "get_bytes": queue.get_bytes,
            "get_bytes_into": lambda: queue.get_bytes_into(bytearray(8)),
            "get_many": lambda: queue.get_many(10),
        }

        def content(item):
            return bytes(getattr(item, "data", item))

        def fails(method, error, count):
            with Limit():
                try:
                    takes[method]()
                except error:
                    assert queue.qsize() == count, (queue.qsize(), count)
                    return
            raise AssertionError(f"{method}() did not fail")

        if kept == "nothing":
            queue.put_many(items)
        elif kept == "a message":
            queue.put_many(items)
            fails("get_many", MemoryError, 3)
        elif kept == "a batch":
            queue.put_many([Refused(), *items])
            fails("get_many", LookupError, 3)
        else:
            queue.put_many([items[0], Refused(), *items])
            fails("get_many", MemoryError, 5)
            assert content(queue.get()) == bytes(large)
            fails("get_many", LookupError, 3)
        for _ in range(2):
            fails(take, MemoryError, 3)
        received = [queue.get(), queue.get(), *queue.get_many(10)]
        whole = [content(item) for item in received]
        assert whole == [bytes(large), b"4", b"5"], [len(item) for item in whole]
        assert queue.empty()
        """,
        kind,
        kept,
        take,
    )


@pytest.mark.parametrize("kind", ["bytes", "text"])
@pytest.mark.parametrize("take", ["get", "get_bytes"])
def test_a_message_that_memory_does_not_suffice_for_is_kept_at_every_step(run_program, kind, take):
    run_program(
        """
        import pickle
        import resource
        import sys
        import fastipc

        kind, take = sys.argv[1:]
        size = 2**25
        queue = fastipc.Queue()
        queue.put(b"l" * size if kind == "bytes" else "l" * size)
        before = resource.getrlimit(resource.RLIMIT_AS)
        failed = 0
        for eighths in range(2, 80):
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + size // 8 * eighths, before[1]))
            try:
                item = getattr(queue, take)()
                break
            except MemoryError:
                failed += 1
                assert queue.qsize() == 1
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        assert failed >= 6, failed
        if take == "get_bytes":
            item = pickle.loads(item)
        assert item == (b"l" * size if kind == "bytes" else "l" * size)
        assert queue.empty()
        """,
        kind,
        take,
    )
