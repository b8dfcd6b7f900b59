"""The commands, one file each: `add(subparsers)` declares flags, `run(args)` returns the exit code."""

FINE, BUG, BAD_INPUT, UNDETERMINED = 0, 1, 2, 3
