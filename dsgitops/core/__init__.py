"""The decisions: pure functions over frozen values.

What belongs here: anything that can be computed from its arguments.  No I/O, clock, randomness,
logging or client library (import-linter enforces it).
"""
