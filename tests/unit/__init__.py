"""What fastipc promises beyond multiprocessing's contract; these tests run on fastipc only."""
