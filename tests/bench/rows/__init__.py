"""The rows, a file per family: `rows(options)` lists them, and beside it stand the jobs of this reference."""
