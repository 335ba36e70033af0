"""Tests of what a user meets before the first queue: build, installation, import."""
