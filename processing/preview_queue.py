"""Requests for previews, and the slots that wait for them.

Requests lie in a list of Valkey's, and a Celery message wakes a slot to look there. A slot that has made a
preview waits a little for the next one, for that of a slider comes soon: then no message is sent, whose way
takes longer than all the rest. A slot that waits leaves a token, and each request takes one where one is. So
there are as many tokens as waiting slots, less the requests that are about to reach them; which slot left
which token does not matter.

Each step is one script, which nothing else can come between. All times are Valkey's.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from processing.fleet import Slot
from processing.previews import PATIENCE_SECONDS, valkey

_REQUESTS = "ipau:preview:requests"
_TOKENS = "ipau:preview:tokens"

# Returns 1 where a slot waits for this request, 0 where one has to be woken. Overdue tokens are dead slots'.
_PUT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('RPUSH', KEYS[1], now .. ' ' .. ARGV[1])
local token = redis.call('ZPOPMAX', KEYS[2])
if #token > 0 and tonumber(token[2]) < now then
    redis.call('DEL', KEYS[2])
    return 0
end
return #token > 0 and 1 or 0
"""
# Returns the next request that somebody may still wait for; where there is none, leaves a token if told to.
_LOOK = """
local now = tonumber(redis.call('TIME')[1])
while true do
    local request = redis.call('LPOP', KEYS[1])
    if not request then break end
    if tonumber(string.match(request, '^%d+')) + tonumber(ARGV[1]) >= now then return request end
end
if tonumber(ARGV[3]) > 0 then
    redis.call('ZADD', KEYS[2], now + math.ceil(tonumber(ARGV[3])) + 1, ARGV[2])
end
return false
"""
# Takes a token away, that there be as many as slots. Where there is none, a request has counted on this slot.
_LEAVE = """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then return false end
if #redis.call('ZPOPMIN', KEYS[2]) > 0 then return false end
return redis.call('LPOP', KEYS[1])
"""


@cache
def _script(text: str) -> Any:
    return valkey().register_script(text)


def put(request: list[Any]) -> bool:
    """Leave a request; return whether a slot waits for it. Otherwise one has to be woken."""
    return bool(_run(_PUT, json.dumps(request)))


def take(slot: Slot, *, seconds: float) -> list[Any] | None:
    """Return the next request, waiting so long for it, or None. Those that are too old are dropped."""
    name = f"{slot.worker}/{slot.pid}"
    found = _run(_LOOK, PATIENCE_SECONDS, name, seconds)
    if found is None and seconds > 0:
        reply: Any = valkey().blpop([_REQUESTS], timeout=seconds)
        found = reply[1] if reply else _run(_LEAVE, name)
    return None if found is None else json.loads(found.partition(b" ")[2])


def waiting(worker: str) -> int:
    """Return about how many slots of a worker wait for a request, with nothing to do."""
    names: Any = valkey().zrange(_TOKENS, 0, -1)
    return sum(name.decode().rpartition("/")[0] == worker for name in names)


def drop() -> None:
    """Forget all requests: nobody is there to make them."""
    valkey().delete(_REQUESTS)


def _run(script: str, *args: object) -> Any:
    return _script(script)(keys=[_REQUESTS, _TOKENS], args=args)
