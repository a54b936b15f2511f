"""Where a site with an S3 bucket keeps its bytes. Imported only where one is configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3File, S3Storage

F = TypeVar("F", bound=Callable[..., Any])
CONNECT_SECONDS = 5
READ_SECONDS = 20
# Beyond this, a file that is read lies in a temporary file and not in memory.
MEMORY_BYTES = 16 * 2**20


def _as_os_error(call: F) -> F:
    """Raise what S3 has to complain about as OSError, as a disk would: the same faults mean the same."""

    @wraps(call)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise OSError(f"The bucket failed: {error}") from error

    return told  # type: ignore[return-value]  # as it came


class BucketFile(S3File):
    """An object that is fetched as soon as it is read."""

    _get_file = _as_os_error(S3File._get_file)
    file = property(_get_file, S3File._set_file)


class BucketStorage(S3Storage):
    """Names are digests of the content, so writing one twice replaces it by the same bytes."""

    def __init__(self, **options: Any) -> None:
        addressing = options.pop("addressing_style", None)
        super().__init__(  # type: ignore[no-untyped-call]  # as all of that package
            **options,
            file_overwrite=True,
            querystring_auth=True,
            max_memory_size=MEMORY_BYTES,
            # A slot is one process on one core, and its threads would outlive the picture.
            transfer_config=TransferConfig(use_threads=False),
            client_config=Config(
                signature_version="s3v4",
                s3={"addressing_style": addressing},
                # Not every S3 knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
        )

    @_as_os_error
    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        found: File[Any] = super()._open(name, mode)  # type: ignore[no-untyped-call]
        found.__class__ = BucketFile
        return found

    _save = _as_os_error(S3Storage._save)
    delete = _as_os_error(S3Storage.delete)
    exists = _as_os_error(S3Storage.exists)
    listdir = _as_os_error(S3Storage.listdir)
    size = _as_os_error(S3Storage.size)
    get_modified_time = _as_os_error(S3Storage.get_modified_time)
