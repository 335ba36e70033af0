"""Measurements of fastipc beside whatever else could do its job.

They live in the package so that `python -m fastipc bench` works wherever fastipc is installed; the
marks that fastipc has to meet, and the tables made of results, are in `benchmarks/` of the
repository. From the bottom up; a module imports only what stands above it here:

    payloads     the messages: different each time, and how they are checked
    peers        the libraries, behind one small interface
    adapters     those of them that are not multiprocessing under another name
    case         what a case is made of
    cases_*      what is measured: one class a question
    cases        all of them, by name
    driver       one case on one peer, in a process of its own with a child for each part
    measure      starts drivers, warms them up, and collects their numbers
    environment  machine, kernel and versions, to be kept beside the numbers
    command      `python -m fastipc bench`: a short version, its table and its chart

Nothing here is imported by the rest of fastipc, but for the command line's own use.
"""
