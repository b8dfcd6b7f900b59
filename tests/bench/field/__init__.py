"""Clean captures of the field, as rows that `tests/bench/clean.py` judges: one file a library or kind.

row.py says what a row is, subjects.py which models there are, products.py how others multiply matrices, planted.py
which mistakes the same rows are run with; every other file has a function `rows`.
"""
