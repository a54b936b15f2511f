"""What has to be done before a site can serve: settings, tables, static files."""

import filecmp
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import django
import environ
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.cache import caches
from django.core.files.storage import storages
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from drive.storage.filesystem import ContentStorage
from ipau.common.private_files import PRIVATE, Modes, process_umask
from ipau.embedded import Services, ensure_secret_key

# Beside the files of the drive, which the storage looks after, and the services, which have accounts.
PRIVATE_FOLDERS = ("conversions", "logs", "uploads")
PRIVATE_FILES = ("beat-schedule*", "lock", "secret_key", "services.json", "static.stamp")
# nginx and whoever else serves them may read the site's own files.
STATIC_UMASK = 0o022


def close_data_folder(data_dir: Path) -> None:
    """Shut what an earlier release left readable for other accounts, at the top of each folder.

    That is a few calls, whatever lies below; `./manage.py fix_permissions` also mends what lies below.

    Raises:
        GroupError: IPAU_FILES_GROUP names a group that cannot be used.
    """
    for name in PRIVATE_FOLDERS:
        if (data_dir / name).is_dir():
            PRIVATE.apply(data_dir / name, PRIVATE.folder)
    for pattern in PRIVATE_FILES:
        for path in data_dir.glob(pattern):
            PRIVATE.apply(path, PRIVATE.file)
    storage = storages["default"]
    if isinstance(storage, ContentStorage):
        storage.close()
        let_group_pass(data_dir, storage.modes)


def let_group_pass(data_dir: Path, modes: Modes) -> None:
    """Let the group that reads the files step through the data folder, without listing it."""
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if modes.gid is not None and not mode & stat.S_IXOTH:
        modes.apply(data_dir, mode | stat.S_IXGRP)


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
    _remove_changed()
    with process_umask(STATIC_UMASK):
        call_command("collectstatic", interactive=False, verbosity=0, stdout=io.StringIO())
    stamp.write_text(now)
    return True


def _remove_changed() -> None:
    """Remove collected files whose source has other bytes: `collectstatic` keeps those that are newer.

    The sources of a release may be older than what was collected before, as archives keep their times.
    """
    for name, source in _static_files():
        collected = Path(settings.STATIC_ROOT) / name
        if collected.is_file() and not filecmp.cmp(source, collected, shallow=False):
            collected.unlink()


def _static_fingerprint() -> str:
    """Return a digest of names, sizes and times of all static files, without reading them."""
    digest = hashlib.sha256(f"{django.__version__} {settings.STATIC_ROOT} {settings.STORAGES}".encode())
    for name, source in _static_files():
        found = source.stat()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _static_files() -> Iterator[tuple[str, Path]]:
    """Yield the name that each static file is collected under, and where it lies."""
    for finder in get_finders():
        for name, storage in finder.list(None):
            yield os.path.join(getattr(storage, "prefix", None) or "", name), Path(storage.path(name))
