"""One account does what it can to stop the others; another one uses the site, and is timed.

`make neighbors` prints a table. `tests/faults/test_neighbors.py` runs the same in the suite.
"""
