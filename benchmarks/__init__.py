"""What fastipc has to reach, and what is made of results; the measurements are in `fastipc/_bench`.

rows         the marks that are to be met: a case, whom it is compared with, a ratio
report       the table, and the JSON file
check        `python -m benchmarks.check`: all rows, interleaved, met or not
check_options  its arguments
page         `python -m benchmarks.page`: README's table and the chart, made of a JSON file
floor/       what C reaches without Python: two processes, beside all of the above
costs        `python -m benchmarks.costs`: instructions and system calls a message
results/     the JSON files that the documents are made of
test_*       `pytest benchmarks`: the same cases under pytest-benchmark
"""
