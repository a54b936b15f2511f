"""Networks that uploaded weights are put into: our own code, rebuilt from what a few whole numbers say.

Modules here import torch; whoever needs them imports them inside a function.
"""
