"""The folders in which this machine's workers convert and try weights: gone when that ends or is lost."""

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

# A worker may still be about to renew a lease that has just run out.
_GRACE = timedelta(seconds=60)
# Named for the conversion and the lease under which it is done.
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")
# For work without a lease, by its age: no task is let run for so long.
_SCRATCH = re.compile(r"scratch-[0-9a-f]{32}")
_SCRATCH_KEPT = timedelta(hours=1)


def _base() -> Path:
    return Path(settings.DATA_DIR) / "conversions"


def open_folder(conversion_id: UUID, token: UUID) -> AbstractContextManager[Path]:
    """Make a folder that nobody else may read, gone with all that is in it when the block ends."""
    return _open(f"{conversion_id.hex}-{token.hex}")


def open_scratch() -> AbstractContextManager[Path]:
    """The same for work that holds no lease."""
    return _open(f"scratch-{uuid4().hex}")


@contextmanager
def _open(name: str) -> Iterator[Path]:
    base = _base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The sweep may run on a machine that does not see this folder.
    forget_lost()
    folder = base / name
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_lost() -> int:
    """Delete the folders here of workers that were killed: their lease is lost, or no work takes so long.

    Return how many.
    """
    found = {name.groups(): folder for folder in _folders() if (name := _NAME.fullmatch(folder.name))}
    tokens = [UUID(token) for _conversion, token in found]
    held = Conversion.objects.filter(leases.held(left=-_GRACE), lease_token__in=tokens)
    kept = {token.hex for token in held.values_list("lease_token", flat=True) if token}
    lost = [folder for (_conversion, token), folder in found.items() if token not in kept]
    lost += [folder for folder in _folders() if _SCRATCH.fullmatch(folder.name) and _is_old(folder)]
    for folder in lost:
        logger.info("Nobody works in %s any more", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    return len(lost)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _SCRATCH_KEPT.total_seconds()
    except FileNotFoundError:
        return False


def _folders() -> list[Path]:
    try:
        return list(_base().iterdir())
    except FileNotFoundError:
        return []
