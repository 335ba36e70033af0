"""The contract of multiprocessing, as tests that pass on multiprocessing and on fastipc."""
