"""S3 storage backend for blobs. Imported only if a bucket is configured."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, BinaryIO, TypeVar, cast

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3File, S3Storage

from ipau.common.http import concurrency

F = TypeVar("F", bound=Callable[..., Any])
CONNECT_SECONDS = 3
READ_SECONDS = 20
# Per call, first attempt included. Clients repeat uploads, and jobs retry by themselves.
MOST_TRIES = 2
# Larger files that are read go to a temporary file.
MEMORY_BYTES = 16 * 2**20
# Size of one range request.
RANGE_BYTES = 4 * 2**20
# S3 copies up to 5 GiB in one request; pieces of this size finish before the read timeout.
COPY_BYTES = 256 * 2**20
_GONE = ("404", "NoSuchKey", "NoSuchUpload", "NotFound")


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload that has arrived; `size` in bytes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True)
class Leftover:
    """An object, or an unfinished multipart upload (`multipart_id`), and its age."""

    name: str
    since: datetime
    multipart_id: str = ""


def _as_os_error(call: F) -> F:
    """Turn S3 errors into OSError, as a disk raises them.

    In a web request the call counts as a wait, so a bucket that does not answer blocks only some threads.
    """

    @wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with concurrency.waiting(is_short=True):
                return call(*args, **kwargs)
        except ClientError as error:
            gone = error.response["Error"]["Code"] in _GONE
            text = f"The bucket failed: {error}"
            raise (FileNotFoundError(text) if gone else OSError(errno.EIO, text)) from error
        except (Boto3Error, BotoCoreError) as error:
            raise OSError(errno.EIO, f"The bucket failed: {error}") from error

    return wrapper  # type: ignore[return-value]  # same signature


class BucketFile(S3File):
    """An object that is fetched on the first read."""

    _fetch = _as_os_error(S3File._get_file)

    def _get_file(self) -> Any:
        fetched: Any = self._file
        return fetched if fetched is not None else self._fetch()

    file = property(_get_file, S3File._set_file)


class BucketReader(io.RawIOBase):
    """An object that is read with range requests."""

    def __init__(self, client: Any, where: dict[str, str], size: int):
        super().__init__()
        self._client, self._where, self._size = client, where, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    @_as_os_error
    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        span = f"bytes={self._position}-{self._position + wanted - 1}"
        data = self._client.get_object(**self._where, Range=span)["Body"].read()
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Read the rest in ranges of `RANGE_BYTES`. The inherited method reads a few kilobytes at a time."""
        return b"".join(iter(lambda: self.read(RANGE_BYTES) or b"", b""))


class BucketStorage(S3Storage):
    """S3 storage. Names are digests of the content, so overwriting an object does not change it.

    Options in addition to those of S3Storage: `public_endpoint_url`, the address of the bucket for browsers
    if it is not `endpoint_url`.
    """

    bucket_name: str
    region_name: str | None
    querystring_expire: int
    client_config: Any

    def __init__(self, **options: Any) -> None:
        addressing = options.pop("addressing_style", None)
        self.public_endpoint_url: str | None = options.pop("public_endpoint_url", None)
        self._signer: Any = None
        super().__init__(  # type: ignore[no-untyped-call]  # untyped library
            **options,
            file_overwrite=True,
            querystring_auth=True,
            max_memory_size=MEMORY_BYTES,
            # A slot is one process on one core; threads would outlive the item.
            transfer_config=TransferConfig(use_threads=False),
            client_config=Config(
                signature_version="s3v4",
                s3={"addressing_style": addressing},
                # Not every S3 server supports the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": MOST_TRIES},
            ),
        )

    @_as_os_error
    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        file: File[Any] = super()._open(name, mode)  # type: ignore[no-untyped-call]  # untyped library
        file.__class__ = BucketFile
        return file

    _save = _as_os_error(S3Storage._save)
    delete = _as_os_error(S3Storage.delete)
    exists = _as_os_error(S3Storage.exists)
    listdir = _as_os_error(S3Storage.listdir)
    size = _as_os_error(S3Storage.size)
    get_modified_time = _as_os_error(S3Storage.get_modified_time)

    # --- Presigned URLs.

    @property
    def _client(self) -> Any:
        return self.connection.meta.client

    def _where(self, name: str, multipart_id: str = "") -> dict[str, str]:
        """Return the S3 parameters that name an object or its multipart upload."""
        key: str = self._normalize_name(name)
        where = {"Bucket": self.bucket_name, "Key": key}
        return {**where, "UploadId": multipart_id} if multipart_id else where

    def _below(self, prefix: str) -> dict[str, str]:
        where = self._where(prefix)
        return {"Bucket": where["Bucket"], "Prefix": where["Key"]}

    @property
    def signer(self) -> Any:
        """The client that signs URLs for browsers; it sends no requests."""
        if self.public_endpoint_url is None:
            return self._client
        if self._signer is None:
            self._signer = self._create_session().client(
                "s3",
                region_name=self.region_name,
                endpoint_url=self.public_endpoint_url,
                config=self.client_config,
            )
        return self._signer

    def url(
        self,
        name: str | None,
        parameters: dict[str, Any] | None = None,
        expire: int | None = None,
        http_method: str | None = None,
    ) -> str:
        """Return a presigned URL to read an object, valid for `expire` seconds."""
        where = {**self._where(name or ""), **(parameters or {})}
        expire = self.querystring_expire if expire is None else expire
        return cast(
            str,
            self.signer.generate_presigned_url(
                "get_object", Params=where, ExpiresIn=expire, HttpMethod=http_method
            ),
        )

    # --- Multipart uploads.

    @_as_os_error
    def begin_parts(self, name: str) -> str:
        """Begin a multipart upload and return its id."""
        options = self._get_write_parameters(name)
        begun = self._client.create_multipart_upload(**self._where(name), **options)
        return cast(str, begun["UploadId"])

    def presign_part(self, name: str, multipart_id: str, number: int, *, size: int, seconds: int) -> str:
        """Return a presigned URL to PUT part `number` of exactly `size` bytes, valid for `seconds`."""
        part = {"PartNumber": number, "ContentLength": size}
        where = {**self._where(name, multipart_id), **part}
        return cast(str, self.signer.generate_presigned_url("upload_part", Params=where, ExpiresIn=seconds))

    @_as_os_error
    def list_parts(self, name: str, multipart_id: str) -> list[Part]:
        """Return the parts that have arrived. Raises FileNotFoundError if the upload is not in progress."""
        pages = self._client.get_paginator("list_parts").paginate(**self._where(name, multipart_id))
        return [
            Part(found["PartNumber"], found["Size"], found["ETag"])
            for page in pages
            for found in page.get("Parts", ())
        ]

    @_as_os_error
    def finish_parts(self, name: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Assemble the parts into an object. Raises FileNotFoundError if the upload is not in progress."""
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        where = self._where(name, multipart_id)
        self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": listed})

    @_as_os_error
    def abort_parts(self, name: str, multipart_id: str) -> None:
        """Abort a multipart upload. Raises FileNotFoundError if it is not in progress."""
        self._client.abort_multipart_upload(**self._where(name, multipart_id))

    @_as_os_error
    def unfinished(self, prefix: str) -> list[Leftover]:
        """Return unfinished multipart uploads with names that begin with `prefix`."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(**self._below(prefix))
        return [
            Leftover(found["Key"], found["Initiated"], found["UploadId"])
            for page in pages
            for found in page.get("Uploads", ())
        ]

    # --- Objects.

    @_as_os_error
    def objects(self, prefix: str) -> list[Leftover]:
        """Return the objects with names that begin with `prefix`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(**self._below(prefix))
        return [
            Leftover(found["Key"], found["LastModified"])
            for page in pages
            for found in page.get("Contents", ())
        ]

    @_as_os_error
    def copy(self, source: str, target: str, on_progress: Callable[[], None] = lambda: None) -> None:
        """Copy an object of any size inside the bucket, without downloading it.

        `on_progress` is called after each piece; an exception from it aborts the copy.
        """
        options = self.get_object_parameters(target)
        self._client.copy(
            self._where(source),
            *self._where(target).values(),
            ExtraArgs=options,
            Callback=lambda _: on_progress(),
            Config=TransferConfig(
                multipart_threshold=COPY_BYTES, multipart_chunksize=COPY_BYTES, use_threads=False
            ),
        )

    def open_ranges(self, name: str) -> BinaryIO:
        """Open an object for random access, without downloading all of it."""
        size: int = self.size(name)
        raw = BucketReader(self._client, self._where(name), size)
        return cast(BinaryIO, io.BufferedReader(raw, RANGE_BYTES))
