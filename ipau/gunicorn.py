"""Gunicorn settings: a few processes, each with a main loop for slow clients and a thread pool."""

import gc
import os
import resource
from pathlib import Path
from typing import Any

import django
from django.urls import get_resolver

from ipau.celery import app
from workers import registry

# Gunicorn imports the worker class before the application, and the worker class needs settings and apps.
django.setup()

#: The address and port of the web server, if it is started without `up`.
bind = os.environ.get("IPAU_BIND", "127.0.0.1:8000")
worker_class = "ipau.web.worker.WebWorker"
#: Web processes.
workers = int(os.environ.get("IPAU_WEB_WORKERS", "2"))
#: Threads of one web process. Most of them wait for the database or a preview.
threads = int(os.environ.get("IPAU_WEB_THREADS", "16"))
# The worker sends files itself, and never blocks on a slow reader.
sendfile = False
# Load the application once, then fork: half the start-up time and half the memory.
preload_app = True
timeout = 60
graceful_timeout = 8
keepalive = 5
# Restart processes before a memory leak matters. The jitter keeps them from restarting together.
max_requests = 5000
max_requests_jitter = 500
# Writes of the heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # nosec B108
# The socket would be created in the home folder, and nothing uses it.
control_socket_disable = True


def when_ready(server: Any) -> None:  # noqa: ARG001  # gunicorn's signature
    """Load before the fork what the first requests need: memory is shared, and errors show at once."""
    # Each connection is an open file, and the usual soft limit is 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    len(get_resolver().url_patterns)
    registry.discover()
    # Import the broker's driver, without connecting.
    app.connection_for_write().get_transport_cls()
    # Later, a full collection would scan all loaded objects for 0.1 s while a request waits.
    gc.collect()
    gc.freeze()
