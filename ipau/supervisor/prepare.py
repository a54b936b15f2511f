"""Preparation of a site before it starts: settings, permissions, migrations, static files."""

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

# In addition to the drive's files, which the storage protects, and the services' folders, which their account
# owns.
PRIVATE_FOLDERS = ("conversions", "logs", "uploads")
PRIVATE_FILES = ("beat-schedule*", "lock", "secret_key", "services.json", "static.stamp")
# nginx and other servers may read static files.
STATIC_UMASK = 0o022


def close_data_folder(data_dir: Path) -> None:
    """Make the top-level folders and files private that earlier releases left readable for other accounts.

    This takes only a few system calls. `./manage.py fix_permissions` also fixes the files below them.

    Raises:
        GroupError: the group in IPAU_FILES_GROUP cannot be used.
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
    """Let the group that reads the files enter the data folder, without listing it."""
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if modes.gid is not None and not mode & stat.S_IXOTH:
        modes.apply(data_dir, mode | stat.S_IXGRP)


def adopt(services: Services) -> None:
    """Use services that were started after the settings were loaded.

    Call it before the first query: it does not close connections.
    """
    if services.database_url:
        config = environ.Env.db_url_config(services.database_url)
        # The connection holds a reference to this dictionary, so change it in place.
        database = connections["default"].settings_dict
        options = {**database["OPTIONS"], **config.pop("OPTIONS", {})}
        database.update({**config, "OPTIONS": options})
    if services.redis_url:
        previous = settings.REDIS_URL
        settings.REDIS_URL = services.redis_url
        if previous == settings.CELERY_BROKER_URL:
            settings.CELERY_BROKER_URL = services.redis_url
        settings.CACHES["default"]["LOCATION"] = services.redis_url
        caches.settings["default"]["LOCATION"] = services.redis_url


def adopt_secret_key(data_dir: Path) -> None:
    """Use the secret key of the data folder if SECRET_KEY is not set."""
    if not environ.Env().str("SECRET_KEY", default=""):
        settings.SECRET_KEY = ensure_secret_key(data_dir)


def migrate() -> None:
    """Migrate the database, and update the rows that describe built-in apps."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)
    else:
        # Much faster than `migrate` without changes. A release without migrations may still add an app.
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def collect_static(data_dir: Path) -> bool:
    """Collect static files if any has changed; return whether any had."""
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
    """Remove collected files that differ from their source: `collectstatic` keeps those that are newer.

    The sources of a release may be older than what was collected before, as archives keep their times.
    """
    for name, source in _static_files():
        collected = Path(settings.STATIC_ROOT) / name
        if collected.is_file() and not filecmp.cmp(source, collected, shallow=False):
            collected.unlink()


def _static_fingerprint() -> str:
    """Return a digest of the names, sizes and modification times of all static files."""
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
