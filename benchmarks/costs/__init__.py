"""Where the time goes: what a message costs in instructions and in system calls.

    program       what is looked at, from outside: it measures nothing itself
    instructions  `program` under valgrind's callgrind, counted by whose code they are
    syscalls      `program` under strace, two processes, counted by what they ask for
    __main__      `python -m benchmarks.costs`: the tables, or JSON

Counts, not times: they hardly change from run to run, and say nothing about caches. What is counted
is marked by calls of getppid(), which nothing else here makes.
"""
