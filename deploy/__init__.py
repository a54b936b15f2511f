"""Deployment files of IPAU, and scripts for developers."""
