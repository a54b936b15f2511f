"""Chaos test of a whole site: `python -m tests.chaos --seed 1 --minutes 1`.

`site` runs it, `people` use it, `faults` strike it, `slowness` gives them time to hit, and `verdict` says
what is wrong with it afterwards.
"""
