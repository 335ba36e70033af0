"""Barrier pairs of csrc/PROTOCOL.md, with and without their orders: `python -m tests.orders`."""
