"""The folders in which this machine's workers convert: one for each claim, gone when it ends or is lost."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from market.models import Conversion

logger = logging.getLogger(__name__)

# A worker may still be about to renew a lease that has just run out.
_GRACE = timedelta(seconds=60)
# Named for the conversion and the lease under which it is done.
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")


def _base() -> Path:
    return Path(settings.DATA_DIR) / "conversions"


@contextmanager
def open_folder(conversion_id: UUID, token: UUID) -> Iterator[Path]:
    """Make a folder that nobody else may read, gone with all that is in it when the block ends."""
    base = _base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = base / f"{conversion_id.hex}-{token.hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_lost() -> int:
    """Delete the folders here whose worker has lost its lease, as one that was killed; return how many."""
    found = {name.groups(): folder for folder in _folders() if (name := _NAME.fullmatch(folder.name))}
    tokens = [UUID(token) for _conversion, token in found]
    held = Conversion.objects.filter(lease_token__in=tokens, lease_expires_at__gt=Now() - _GRACE)
    kept = {token.hex for token in held.values_list("lease_token", flat=True) if token}
    lost = [folder for (_conversion, token), folder in found.items() if token not in kept]
    for folder in lost:
        logger.info("Nobody converts in %s any more", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    return len(lost)


def _folders() -> list[Path]:
    try:
        return list(_base().iterdir())
    except FileNotFoundError:
        return []
