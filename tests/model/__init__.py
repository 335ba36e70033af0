"""The models of docs/model, checked by spin: `python -m tests.model`."""
