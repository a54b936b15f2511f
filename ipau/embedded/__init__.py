"""Embedded PostgreSQL and Valkey, used if no other servers are configured.

`with running(data_dir) as services:` starts both in the data folder and stops them at the end. A watchdog
process stops them even if this process is killed.
"""

from ipau.embedded.errors import EmbeddedError
from ipau.embedded.services import Services, ensure_secret_key, running

__all__ = ["EmbeddedError", "Services", "ensure_secret_key", "running"]
