"""CPython's own test classes, run on fastipc's classes.

The tests are those of the running interpreter's `test` package (`test._test_multiprocessing` and
`test.test_concurrent_futures`); nothing of them is kept here. Their `import multiprocessing`
statements are read as `import fastipc as multiprocessing`, which is exactly what a user of
fastipc writes, in the test process and in every child.

    python -m tests.cpython                             the running interpreter, three methods
    python -m tests.cpython --all-pythons               each Python 3.10 to 3.13 that is found
    python -m tests.cpython --target multiprocessing    a check of this runner itself

`selection` says which classes run and what is excluded, `rewrite` reads the imports, `suite`
makes the classes, `mends` takes out faults of the interpreter's own library that make tests hang
by chance, `worker` runs them in a process of its own, `supervise` starts the workers and
watches over them, `interpreters` finds Pythons and builds fastipc for them, `report` counts and
judges, `expected.json` keeps the counts that may only rise.
"""
