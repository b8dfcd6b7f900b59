"""The commands, one file each: `add(subparsers)` declares flags, `run(args)` returns the exit code."""

FINE, BUG, BAD_INPUT, UNDETERMINED, FAILED, REGRESSED = range(6)  # BUG only ever means that a bug was found
