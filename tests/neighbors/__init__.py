"""Overload test: one account overloads a site while the requests of another account are timed.

`make neighbors` prints a table. `tests/faults/test_neighbors.py` runs the same in the suite.
"""
