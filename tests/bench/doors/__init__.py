"""Stacks that run Gemma 3, each with its way to a dump of docs/getting-a-dump.md, and a mistake planted in it."""
