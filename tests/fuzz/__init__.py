"""Fuzzers of what comes from shared memory: `python -m tests.fuzz`."""
