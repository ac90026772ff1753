"""Figures of opnode on this machine: ``python -m benchmarks NAME [--json]``.

A benchmark measures and reports; it never passes or fails a test. One file per figure,
each with a docstring that says what the clock includes.
"""
