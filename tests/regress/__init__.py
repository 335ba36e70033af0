"""Bugs that were there once, each in a file named by its symptom."""
