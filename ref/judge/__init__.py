"""The judge: goes through a dump, has it measured and diagnosed, and says the verdict."""
