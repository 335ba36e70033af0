"""Measurements of fastipc beside whatever else could do its job.

From the bottom up; a module imports only what stands above it here:

    payloads     the messages: different each time, and how they are checked
    peers        the libraries, behind one small interface
    cases_*      what is measured: one class a question
    cases        all of them, by name
    driver       one case on one peer, in a process of its own with a child for each part
    measure      starts drivers, warms them up, and collects their numbers
    environment  machine, kernel and versions, to be kept beside the numbers
    rows         the marks that are to be met: a case, a peer, a ratio
    report       the table, and the JSON file
    check        `python -m benchmarks.check`: all rows, interleaved, met or not
    test_*       `pytest benchmarks`: the same cases under pytest-benchmark
"""
