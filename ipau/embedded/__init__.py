"""PostgreSQL and Valkey of our own, for when none is configured.

`with running(data_dir) as services:` starts both under the data folder and stops them at the end, whatever
happens to us: a watchdog process ends them even when we are killed.
"""

from ipau.embedded.errors import EmbeddedError
from ipau.embedded.services import Services, ensure_secret_key, running

__all__ = ["EmbeddedError", "Services", "ensure_secret_key", "running"]
