"""How gunicorn serves the site: a few processes, each with a main loop for slow clients and a thread pool."""

import gc
import os
import resource
from pathlib import Path
from typing import Any

import django
from django.urls import get_resolver

from ipau.celery import app
from workers import registry

# The worker class uses the settings and apps, and gunicorn imports it before the application.
django.setup()

#: The address and port of the web server, if it is started without `up`.
bind = os.environ.get("IPAU_BIND", "127.0.0.1:8000")
worker_class = "ipau.web.worker.Worker"
#: Web processes.
workers = int(os.environ.get("IPAU_WEB_WORKERS", "2"))
#: Threads of one web process. Most of them wait for the database or a preview.
threads = int(os.environ.get("IPAU_WEB_THREADS", "16"))
# The file that is being sent is sent by the worker itself, which never waits for its reader.
sendfile = False
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
    # Connections are files: the system's usual soft limit is 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    len(get_resolver().url_patterns)
    registry.discover()
    # The broker's driver; this connects to nothing.
    app.connection_for_write().get_transport_cls()
    # A full collection walks over all that is loaded, for a tenth of a second, with a request waiting.
    gc.collect()
    gc.freeze()
