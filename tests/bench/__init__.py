"""Benchmarks, run by hand: `python -m tests.bench` measures time and memory; the scripts beside it judge captures.

A row is one piece of work. Its entries do the same work: this reference, other implementations, an older checkout. Each
has a process of its own, with the same threads, and is asked for one timing at a time, so that they alternate.
"""
