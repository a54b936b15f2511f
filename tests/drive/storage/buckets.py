"""A bucket for tests: moto's S3, started as a server."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.storage import storages

from tests.pictures import picture_bytes

if TYPE_CHECKING:
    from drive.storage.s3 import BucketStorage

BUCKET = "pictures"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # Heavy, and only a few tests need it.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@functools.cache
def load_once(search_path: str | None = None) -> Any:
    """Return botocore's loader of descriptions of services, which keeps what it has read and parsed."""
    from botocore.loaders import create_loader

    return create_loader(search_path)


@pytest.fixture
def bucket(endpoint: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> BucketStorage:
    """An empty bucket in which the site keeps its bytes."""
    # Else each client, one a thread and test, would parse megabytes of JSON again.
    monkeypatch.setattr("botocore.session.create_loader", load_once)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    use(settings, endpoint)
    storage = storages["default"]
    assert hasattr(storage, "querystring_auth")
    storage.connection.create_bucket(Bucket=BUCKET)
    storage.bucket.objects.all().delete()
    for left in storage.unfinished(""):
        storage.abort_parts(left.name, left.multipart_id)
    return storage


def use(settings: Any, endpoint: str) -> None:
    """Have the site keep its bytes in a bucket, with the options of its settings."""
    bucket = {
        "BACKEND": "drive.storage.s3.BucketStorage",
        "OPTIONS": {"bucket_name": BUCKET, "endpoint_url": endpoint, "addressing_style": "path"},
    }
    settings.STORAGES = {**settings.STORAGES, "default": bucket}


def keys(bucket: BucketStorage) -> set[str]:
    return {found.key for found in bucket.bucket.objects.all()}


@pytest.fixture
def offered(bucket: BucketStorage, settings: Any) -> None:
    """Have browsers send large files into the bucket by themselves."""
    settings.S3_DIRECT = True


@pytest.fixture(scope="module")
def large_picture() -> bytes:
    """A picture of more than two parts: noise does not become smaller."""
    data = picture_bytes("PNG", 200, 200, seed=1)
    return data + b"\0" * (17 * 2**20 - len(data))
