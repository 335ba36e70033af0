"""What type checkers see: the programs in programs/ are checked by mypy, not run."""
