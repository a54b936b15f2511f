"""PostgreSQL and Valkey of a test run, shared by all its processes.

The first process that imports the settings starts them (under xdist, the controller). Its workers and the
processes that tests start inherit the addresses through the environment. If DATABASE_URL or REDIS_URL is set,
that server is used instead. The watchdog of the embedded services stops them even if pytest is killed.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ipau import embedded
from ipau.embedded.bytecode import compile_code

RUN = "IPAU_TEST_RUN"
REDIS = "IPAU_TEST_REDIS_URL"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def ensure_started() -> None:
    """Start the services if needed, and set the addresses of this process in the environment."""
    if RUN not in os.environ:
        _start()
    # The processes of a run share the cores, so threads of numeric libraries would slow each other down.
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    data = Path(os.environ[RUN]) / worker
    data.mkdir(exist_ok=True)
    os.environ["IPAU_DATA"] = str(data)
    os.environ["REDIS_URL"] = own_redis(os.environ[REDIS], worker)


def _start() -> None:
    # Tests must not use settings from the developer's environment.
    for name in [name for name in os.environ if name.startswith("IPAU_") or name == "SECRET_KEY"]:
        del os.environ[name]
    # Workers, servers and conversions would each compile what they load, where no bytecode is written.
    compile_code()
    run = Path(tempfile.mkdtemp(prefix="ipau-tests-"))
    stack = contextlib.ExitStack()
    stack.callback(shutil.rmtree, run, ignore_errors=True)
    want_postgres, want_valkey = "DATABASE_URL" not in os.environ, "REDIS_URL" not in os.environ
    try:
        services = stack.enter_context(
            embedded.running(run / "services", postgres=want_postgres, valkey=want_valkey, unsafe=True)
        )
    except embedded.EmbeddedError as error:
        stack.close()
        raise SystemExit(f"The tests need PostgreSQL and Valkey. {error}") from error
    services.watchdog.delete_folder(run)
    atexit.register(stack.close)
    if services.database_url:
        os.environ["DATABASE_URL"] = services.database_url
    os.environ[REDIS] = services.redis_url or os.environ["REDIS_URL"]
    os.environ[RUN] = str(run)


def own_redis(base: str, worker: str) -> str:
    """Return the URL of this worker's database: the number in `base` for the main process, then gw0, …"""
    parts = urlsplit(base)
    first = int(parts.path.strip("/") or 0)
    number = int(worker.removeprefix("gw")) + 1 if worker.startswith("gw") else 0
    return urlunsplit(parts._replace(path=f"/{first + number}"))
