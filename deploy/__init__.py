"""Running IPAU on machines, and scripts for those who develop it."""
