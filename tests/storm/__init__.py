"""The storm: producers and consumers are killed at random and restarted, for minutes, and then it
is counted what became of every message.

`python -m tests.storm --help` runs it by hand; `test_storm.py` runs short ones under pytest.

    messages.py    what travels: sizes, shapes, sender, number and checksum of each
    ledger.py      what a worker was doing, in a file of its own that survives its kill
    workers.py     what a producer and a consumer do until they are killed
    memory.py      the memory of a segment, and what of it is kept on purpose
    kinds.py       one manner of speaking for the queues and pipes of a library
    scenarios.py   the table of what is stormed
    deaths.py      how workers are ended, and what their exit codes may then be
    crew.py        the workers that live, and the restart of those that died
    supervisor.py  one round: the storm, the calm behind it, and what is looked at then
    way.py         what the supervisor knows of one way of a queue or pipe
    verdict.py     the promise, as arithmetic on ledgers: what came how often, in which order
    happened.py    what must have happened in a storm, for its silence to mean anything
    one.py         rounds of one scenario, behind which nothing may be left
"""
