"""Preview request and response channel over Valkey.

Images and answers expire soon, so an abandoned preview leaves nothing behind.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis
from django.conf import settings

QUEUE = "preview"
# A preview request times out after this long, in the queue or in a slot.
REQUEST_TIMEOUT_SECONDS = 15
# After this long without an answer, the request checks whether a preview worker runs.
WORKER_CHECK_SECONDS = 0.5
# From then on, a waiting request checks this often whether a slot must be woken.
WAKE_CHECK_SECONDS = 2.0
# The error code of a request that newer ones of the same account replaced.
SUPERSEDED = "superseded"
CACHE_SECONDS = 600
_PREFIX = "ipau:preview"
# Every function here raises this when Valkey does not answer.
ChannelError = redis.RedisError


@dataclass(frozen=True)
class Answer:
    """Result of a preview: the reduced image and other outputs, or an error."""

    content_type: str = ""
    body: bytes = b""
    width: int = 0
    height: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    timings: Mapping[str, float] = field(default_factory=dict)
    error_code: str = ""
    error: str = ""

    def pack(self) -> bytes:
        """Return the answer as bytes: 4 bytes of header length, the JSON header, the body."""
        header = {name: value for name, value in vars(self).items() if name != "body"}
        text = json.dumps(header).encode()
        return len(text).to_bytes(4, "big") + text + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> "Answer":
        length = int.from_bytes(packed[:4], "big")
        return cls(body=packed[4 + length :], **json.loads(packed[4 : 4 + length]))


@cache
def valkey() -> "redis.Redis":
    # No blocking call waits longer than WAKE_CHECK_SECONDS.
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=6)


def cache_key(*, sha256: str, recipe_digest: str, resources: Mapping[str, list[str]]) -> str:
    """Return the cache key of a preview: a digest of image, recipe and images of its parameters."""
    text = json.dumps([sha256, recipe_digest, resources], sort_keys=True)
    return f"{_PREFIX}:kept:{hashlib.sha256(text.encode()).hexdigest()}"


def cached(key: str) -> Answer | None:
    packed = valkey().get(key)
    return Answer.unpack(packed) if isinstance(packed, bytes) else None


def store_image(data: bytes) -> str:
    """Store an image that is not in the drive for the worker; return its ticket."""
    ticket = uuid.uuid4().hex
    valkey().set(f"{_PREFIX}:in:{ticket}", data, ex=2 * REQUEST_TIMEOUT_SECONDS)
    return ticket


def load_image(ticket: str) -> bytes | None:
    """Return the image of a ticket, or None if it has expired."""
    data = valkey().get(f"{_PREFIX}:in:{ticket}")
    return data if isinstance(data, bytes) else None


def delete_image(ticket: str) -> None:
    valkey().delete(f"{_PREFIX}:in:{ticket}")


def answer(request_id: str, key: str, result: Answer) -> None:
    """Send an answer to the waiting request; cache it if it is no error."""
    packed = result.pack()
    channel = f"{_PREFIX}:out:{request_id}"
    pipe = valkey().pipeline(transaction=False)
    pipe.rpush(channel, packed)
    pipe.expire(channel, 2 * REQUEST_TIMEOUT_SECONDS)
    pipe.execute()
    if not result.error:
        # Last, so that the waiting request gets its answer first.
        valkey().set(key, packed, ex=CACHE_SECONDS)


def wait_for(request_id: str, *, seconds: float) -> Answer | None:
    """Wait for the answer; return None if it does not arrive in time."""
    entry: Any = valkey().blpop([f"{_PREFIX}:out:{request_id}"], timeout=seconds)
    return Answer.unpack(entry[1]) if entry else None
