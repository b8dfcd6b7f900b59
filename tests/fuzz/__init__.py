"""Damaged inputs for every reader, made to look sound: `python -m tests.fuzz --help`. All may only be refused."""
