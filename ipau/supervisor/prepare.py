"""What has to be done before a site can serve: settings, tables, static files."""

import hashlib
import io
from pathlib import Path

import django
import environ
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.cache import caches
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from ipau.embedded import Services, ensure_secret_key


def adopt(services: Services) -> None:
    """Point this process at services that were started after its settings had been read.

    Only before the first query: nothing here closes connections.
    """
    if services.database_url:
        found = environ.Env.db_url_config(services.database_url)
        # The connection has its own reference to this very dictionary, so it is changed in place.
        database = connections["default"].settings_dict
        options = {**database["OPTIONS"], **found.pop("OPTIONS", {})}
        database.update({**found, "OPTIONS": options})
    if services.redis_url:
        previous = settings.REDIS_URL
        settings.REDIS_URL = services.redis_url
        if previous == settings.CELERY_BROKER_URL:
            settings.CELERY_BROKER_URL = services.redis_url
        settings.CACHES["default"]["LOCATION"] = services.redis_url
        caches.settings["default"]["LOCATION"] = services.redis_url


def adopt_secret_key(data_dir: Path) -> None:
    """Use the data folder's own secret key where none is given."""
    if not environ.Env().str("SECRET_KEY", default=""):
        settings.SECRET_KEY = ensure_secret_key(data_dir)


def migrate() -> None:
    """Bring the tables up to date, and the rows that stand for what the code brings."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)
    else:
        # Much quicker than a run that finds nothing to do; a release without a migration may bring an app.
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def collect_static(data_dir: Path) -> bool:
    """Collect the static files if any has changed since the last time; tell whether that was needed."""
    stamp = data_dir / "static.stamp"
    now = _static_fingerprint()
    if stamp.exists() and stamp.read_text() == now and Path(settings.STATIC_ROOT).is_dir():
        return False
    call_command("collectstatic", interactive=False, verbosity=0, stdout=io.StringIO())
    stamp.write_text(now)
    return True


def _static_fingerprint() -> str:
    """Return a digest of names, sizes and times of all static files, without reading them."""
    digest = hashlib.sha256(f"{django.__version__} {settings.STATIC_ROOT} {settings.STORAGES}".encode())
    for finder in get_finders():
        for name, storage in finder.list(None):
            found = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
