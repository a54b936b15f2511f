"""How gunicorn serves the site: a few processes of threads behind a proxy that takes the slow clients."""

import gc
import os
from pathlib import Path
from typing import Any

from django.urls import get_resolver

from ipau.celery import app
from workers import registry

bind = os.environ.get("IPAU_BIND", "127.0.0.1:8000")
worker_class = "gthread"
workers = int(os.environ.get("IPAU_WEB_WORKERS", "2"))
threads = int(os.environ.get("IPAU_WEB_THREADS", "4"))
# Loaded once and then forked: half the start-up time and half the memory.
preload_app = True
timeout = 60
graceful_timeout = 8
keepalive = 5
# A leak in a library is cut off before it matters; the jitter keeps the processes from ending together.
max_requests = 5000
max_requests_jitter = 500
# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # nosec B108
# Its default lies in the home folder, and no one uses it here.
control_socket_disable = True


def when_ready(server: Any) -> None:  # noqa: ARG001  # gunicorn's signature
    """Load what first requests would load, before the processes fork: that is shared, and what is broken
    shows at once."""
    len(get_resolver().url_patterns)
    registry.discover()
    # The broker's driver; this connects to nothing.
    app.connection_for_write().get_transport_cls()
    # A full collection walks over all that is loaded, for a tenth of a second, with a request waiting.
    gc.collect()
    gc.freeze()
