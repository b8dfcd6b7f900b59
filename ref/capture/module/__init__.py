"""Captures of any torch module, by a table of its modules: `capture_module`; `draft_table` prints such a table."""

from ref.capture.module.draft import draft_table as draft_table
from ref.capture.module.tables import TABLES as TABLES
from ref.capture.module.write_dump import capture_module as capture_module
