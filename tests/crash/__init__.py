"""The crash tool: kills a process at chosen machine instructions and checks what is left.

`python -m tests.crash --help` runs it by hand; `test_crash.py` runs a sample of it under pytest.

    stepper.c, stepper.py   ptrace: record the instructions of an operation, kill at one of them
    processes.py            forked children with a report and a deadline
    harness.py              one kill and its verdict; all kills of an operation
    operation.py            what an operation is; the sequence of values that a kill may leave
    channels.py             one manner of speaking for queues and pipes
    results.py              the rows of a run, kept in a file and gone on with
    *_operation*.py         the operations on fastipc's objects; operations.py lists them
    proofs.py, proof.c      subjects with known answers, on which the tool proves itself
"""
