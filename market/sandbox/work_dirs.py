"""Working directories of conversions and trials on this machine, and the clean-up of orphaned ones."""

import logging
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings

from ipau.common import leases
from market.models import Conversion

logger = logging.getLogger(__name__)

# A worker may still renew a lease that has just expired.
_GRACE = timedelta(seconds=60)
# Named after the conversion and its lease token.
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")
# Work without a lease. Orphaned by age: no task may run for that long.
_SCRATCH = re.compile(r"scratch-[0-9a-f]{32}")
_SCRATCH_RETENTION = timedelta(hours=1)


def _base() -> Path:
    return Path(settings.DATA_DIR) / "conversions"


def open_folder(conversion_id: UUID, token: UUID) -> AbstractContextManager[Path]:
    """Create a private folder (mode 0700), deleted with its contents when the block ends."""
    return _open(f"{conversion_id.hex}-{token.hex}")


def open_scratch() -> AbstractContextManager[Path]:
    """Create a private folder for work without a lease."""
    return _open(f"scratch-{uuid4().hex}")


@contextmanager
def _open(name: str) -> Iterator[Path]:
    base = _base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The sweep may run on another machine, which cannot see this folder.
    delete_orphaned()
    folder = base / name
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_orphaned() -> int:
    """Delete folders of killed workers on this machine: their lease has expired, or they are too old.

    Returns:
        The number of deleted folders.
    """
    found = {name.groups(): folder for folder in _folders() if (name := _NAME.fullmatch(folder.name))}
    tokens = [UUID(token) for _conversion, token in found]
    held = Conversion.objects.filter(leases.held(left=-_GRACE), lease_token__in=tokens)
    in_use = {token.hex for token in held.values_list("lease_token", flat=True) if token}
    orphaned = [folder for (_conversion, token), folder in found.items() if token not in in_use]
    orphaned += [folder for folder in _folders() if _SCRATCH.fullmatch(folder.name) and _is_old(folder)]
    for folder in orphaned:
        logger.info("Deleting the orphaned folder %s", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    return len(orphaned)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _SCRATCH_RETENTION.total_seconds()
    except FileNotFoundError:
        return False


def _folders() -> list[Path]:
    try:
        return list(_base().iterdir())
    except FileNotFoundError:
        return []
