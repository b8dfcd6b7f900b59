"""Mistakes with free parameters: what the values of a dump say of them, as mutants that can be run."""
