"""Fuzzing with atheris: one module a target, see each."""
