"""The way of a preview: picture to a preview worker, answer back within the request.

Both go through Valkey under a short expiry, so an abandoned preview leaves nothing behind.
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
# How long a person is kept waiting, and so how long a preview may wait in the queue.
PATIENCE_SECONDS = 15
# What has not been answered by then may wait for nobody: whether a worker runs is asked only then.
DOUBT_SECONDS = 0.5
# From then on, how often a request that waits looks whether a slot has to be woken for it.
STIR_SECONDS = 2.0
# The code of the answer to a request that gave way to newer ones of the same person.
SUPERSEDED = "superseded"
KEPT_SECONDS = 600
_PREFIX = "ipau:preview"
# What any function here raises when Valkey does not answer.
ChannelError = redis.RedisError


@dataclass(frozen=True)
class Answer:
    """What a preview gave: the reduced picture, other outputs, or a problem with the picture or settings."""

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
        """Write header and body as one value: 4 bytes of header length, the JSON header, the body."""
        header = {name: value for name, value in vars(self).items() if name != "body"}
        text = json.dumps(header).encode()
        return len(text).to_bytes(4, "big") + text + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> "Answer":
        length = int.from_bytes(packed[:4], "big")
        return cls(body=packed[4 + length :], **json.loads(packed[4 : 4 + length]))


@cache
def valkey() -> "redis.Redis":
    # No call waits longer than STIR_SECONDS for something to come.
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=6)


def cache_key(*, sha256: str, recipe_digest: str, resources: Mapping[str, list[str]]) -> str:
    """Name what a preview depends on: the bytes, the recipe, the pictures its parameters refer to."""
    text = json.dumps([sha256, recipe_digest, resources], sort_keys=True)
    return f"{_PREFIX}:kept:{hashlib.sha256(text.encode()).hexdigest()}"


def kept(key: str) -> Answer | None:
    packed = valkey().get(key)
    return Answer.unpack(packed) if isinstance(packed, bytes) else None


def leave_picture(data: bytes) -> str:
    """Put a picture that is not in the drive where the worker finds it; return its ticket."""
    ticket = uuid.uuid4().hex
    valkey().set(f"{_PREFIX}:in:{ticket}", data, ex=2 * PATIENCE_SECONDS)
    return ticket


def picture_of(ticket: str) -> bytes | None:
    """Return the picture of a ticket, or None when it has expired."""
    data = valkey().get(f"{_PREFIX}:in:{ticket}")
    return data if isinstance(data, bytes) else None


def drop_picture(ticket: str) -> None:
    valkey().delete(f"{_PREFIX}:in:{ticket}")


def answer(request_id: str, key: str, given: Answer) -> None:
    """Hand an answer to the waiting request and keep a good one for the next who asks the same."""
    packed = given.pack()
    channel = f"{_PREFIX}:out:{request_id}"
    pipe = valkey().pipeline(transaction=False)
    pipe.rpush(channel, packed)
    pipe.expire(channel, 2 * PATIENCE_SECONDS)
    pipe.execute()
    if not given.error:
        # Only now, for the request waits for the bytes, and not for this.
        valkey().set(key, packed, ex=KEPT_SECONDS)


def wait_for(request_id: str, *, seconds: float) -> Answer | None:
    """Wait for the answer; None when it does not come in time."""
    found: Any = valkey().blpop([f"{_PREFIX}:out:{request_id}"], timeout=seconds)
    return Answer.unpack(found[1]) if found else None
