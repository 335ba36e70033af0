"""The tests of fastipc; a package, so that spawned children can import their targets."""
