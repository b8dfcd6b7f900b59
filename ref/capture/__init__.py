"""Captures: run another implementation and write what it computed as a dump. One file a witness, each an extra.

Only here, and only while a capture runs, may a framework's functions be wrapped; they are restored afterwards.
"""
