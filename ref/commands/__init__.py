"""The commands, one file each: `add(subparsers)` declares flags, `run(args)` returns the exit code."""

FINE, BUG, BAD_INPUT, UNDETERMINED, FAILED = 0, 1, 2, 3, 4  # BUG only ever means that a bug was found
