"""Network architectures for uploaded weights: this project's own code, built from a few integers.

Modules here import torch. Import them inside functions.
"""
