"""Which of CPython's test classes run on fastipc, which do not, and why.

Only names and reasons live here; `suite` finds the classes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("fork", "spawn", "forkserver")

MULTIPROCESSING = "test._test_multiprocessing"
EXECUTOR = "test.test_concurrent_futures"

# A start method may exclude no more tests than this.
MOST_EXCLUDED = 10

# The classes that must have run on at least one interpreter, by the module that holds them. A
# class of the suite that stands neither here nor in LEFT_OUT runs too: new ones are never missed.
REQUIRED = {
    MULTIPROCESSING: (
        "ChallengeResponseTest",
        "MiscTestCase",
        "OtherTest",
        "TestCloseFds",
        "TestForkAwareThreadLock",
        "TestIgnoreEINTR",
        "TestInitializers",
        "TestInvalidFamily",
        "TestInvalidHandle",
        "TestPoolNotLeakOnFailure",
        "TestSimpleQueue",
        "TestStartMethod",
        "TestStdinBadfiledescriptor",
        "TestTimeouts",
        "TestWait",
        "_TestAtExit",
        "_TestConnection",
        "_TestFinalize",
        "_TestListener",
        "_TestListenerClient",
        "_TestLogging",
        "_TestPicklingConnections",
        "_TestPoll",
        "_TestPollEintr",
        "_TestPool",
        "_TestPoolWorkerErrors",
        "_TestPoolWorkerLifetime",
        "_TestProcess",
        "_TestQueue",
        "_TestSubclassingProcess",
    ),
    EXECUTOR: (
        "AsCompletedTest",
        "ExecutorDeadlockTest",
        "FailingInitializerResourcesTest",
        "FailingInitializerTest",
        "InitializerTest",
        "ProcessPoolExecutorTest",
        "ProcessPoolShutdownTest",
        "WaitTest",
    ),
}

# The one class that has a test for some start methods only.
_HAS_NO_TEST_UNDER = {"FailingInitializerResourcesTest": ("fork",)}

_STANDARD_LOCKS = "tests locks and events, which fastipc takes from multiprocessing unchanged"
_STANDARD_MEMORY = "tests shared values and memory, which fastipc takes over unchanged"
_STANDARD_MANAGERS = "tests managers, which fastipc takes from multiprocessing unchanged"
_STANDARD_TRACKER = "tests named semaphores and their tracker, which fastipc does not use"

# Whole classes that have nothing of fastipc's in them.
LEFT_OUT = {
    "SemLockTests": _STANDARD_LOCKS,
    "_TestBarrier": _STANDARD_LOCKS,
    "_TestCondition": _STANDARD_LOCKS,
    "_TestEvent": _STANDARD_LOCKS,
    "_TestLock": _STANDARD_LOCKS,
    "_TestSemaphore": _STANDARD_LOCKS,
    "_TestArray": _STANDARD_MEMORY,
    "_TestHeap": _STANDARD_MEMORY,
    "_TestSharedCTypes": _STANDARD_MEMORY,
    "_TestSharedMemory": _STANDARD_MEMORY,
    "_TestValue": _STANDARD_MEMORY,
    "TestManagerExceptions": _STANDARD_MANAGERS,
    "TestSyncManagerTypes": _STANDARD_MANAGERS,
    "_TestManagerRestart": _STANDARD_MANAGERS,
    "TestNamedResource": _STANDARD_TRACKER,
    "TestResourceTracker": _STANDARD_TRACKER,
    "TestFlags": "runs a child with -E -S, where no installed package can be imported",
    "TestInternalDecorators": "tests a decorator of the suite itself",
    "TestNoForkBomb": "runs a script of the test package over plain multiprocessing",
    "_TestImportStar": "imports the files of multiprocessing's folder, not of its interface",
}


@dataclass(frozen=True)
class Excluded:
    """One test that is not run, why, and under which start methods."""

    test: str
    reason: str
    methods: tuple[str, ...] = METHODS


EXCLUDED = (
    Excluded(
        "_TestQueue.test_queue_feeder_donot_stop_onexc",
        "expects put() to swallow a pickling error in a feeder thread; fastipc's put() raises it",
    ),
    Excluded(
        "_TestQueue.test_queue_feeder_on_queue_feeder_error",
        "overrides the feeder thread's private hook; fastipc has no feeder thread",
    ),
    Excluded(
        "_TestConnection.test_fd_transfer",
        "sends a raw descriptor through fileno(), which needs a socket behind the connection",
    ),
    Excluded(
        "_TestConnection.test_large_fd_transfer",
        "sends a raw descriptor through fileno(), which needs a socket behind the connection",
    ),
    Excluded(
        "_TestConnection.test_missing_fd_transfer",
        "expects a raw descriptor through fileno(), which needs a socket behind the connection",
    ),
    Excluded(
        "TestStartMethod.test_mixed_startmethod",
        "expects RuntimeError for a queue of another start method; fastipc's works (contexts-mix)",
        ("spawn",),
    ),
)


def excluded_under(method: str) -> dict[str, str]:
    """Return the reasons of the tests excluded under a start method, by test name."""
    return {entry.test: entry.reason for entry in EXCLUDED if method in entry.methods}


def is_exempt(name: str, method: str) -> bool:
    """Return whether a required class has nothing to run under a start method."""
    return method in _HAS_NO_TEST_UNDER.get(name, ())


def problems() -> list[str]:
    """Return what is wrong with the lists themselves, one sentence each."""
    found = [f"{entry.test} is excluded without a reason" for entry in EXCLUDED if not entry.reason]
    for method in METHODS:
        count = sum(method in entry.methods for entry in EXCLUDED)
        if count > MOST_EXCLUDED:
            found.append(f"{method}: {count} tests are excluded, at most {MOST_EXCLUDED} may be")
    required = {name for names in REQUIRED.values() for name in names}
    found += [f"{name} is both required and left out" for name in sorted(required & set(LEFT_OUT))]
    return found
