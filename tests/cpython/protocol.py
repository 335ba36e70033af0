"""What the supervisor and its workers agree on: environment variables, module, signal."""

from __future__ import annotations

import signal

# The module that stands in for `multiprocessing`, and the start method of the whole process.
TARGET_VARIABLE = "OWN_SUITE_TARGET"
METHOD_VARIABLE = "OWN_SUITE_METHOD"
# A folder in which processes share the compiled test modules.
CACHE_VARIABLE = "OWN_SUITE_CACHE"

WORKER = "tests.cpython.worker"

# Makes every process of a hanging test write its stacks; no test of the suite uses this signal.
DUMP_SIGNAL = signal.SIGRTMAX
