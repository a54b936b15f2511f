"""Requests for previews, and the slots that wait for them.

Requests lie in a list of Valkey's, and a Celery message wakes a slot to look there. A slot that has made a
preview waits a little for the next one, for that of a slider comes soon: then no message is sent, whose way
takes longer than all the rest. A slot that waits leaves a token, and each request takes one where one is. So
there are as many tokens as waiting slots, less the requests that are about to reach them; which slot left
which token does not matter.

A request moves to its slot's own list, where the slot's end leaves it: Celery gives the slot's message to
another, which finds what the slot left behind.

Each step is one script, which nothing else can come between. All times are Valkey's.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from processing import claims, fleet
from processing.fleet import Slot
from processing.previews import PATIENCE_SECONDS, valkey

_REQUESTS = "ipau:preview:requests"
_TOKENS = "ipau:preview:tokens"
# Names of slots, and when each last looked for a request.
_SLOTS = "ipau:preview:slots"
# After this nobody waits for what a slot holds, whether it has ended or not.
_FORGET_SECONDS = 3600

# A request is "second tries json". Returns 1 where a slot waits for this one, 0 where one has to be woken.
# Overdue tokens are dead slots'.
_PUT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('RPUSH', KEYS[1], now .. ' 1 ' .. ARGV[1])
local token = redis.call('ZPOPMAX', KEYS[2])
if #token > 0 and tonumber(token[2]) < now then
    redis.call('DEL', KEYS[2])
    return 0
end
return #token > 0 and 1 or 0
"""
# Forgets what the slot held, and returns the next request that somebody may still wait for; where there is
# none, leaves a token if told to.
_LOOK = """
local now = tonumber(redis.call('TIME')[1])
redis.call('DEL', KEYS[4])
redis.call('ZADD', KEYS[3], now, ARGV[1])
while true do
    local request = redis.call('LMOVE', KEYS[1], KEYS[4], 'LEFT', 'RIGHT')
    if not request then break end
    if tonumber(string.match(request, '^%d+')) + tonumber(ARGV[2]) >= now then return request end
    redis.call('DEL', KEYS[4])
end
if tonumber(ARGV[3]) > 0 then
    redis.call('ZADD', KEYS[2], now + math.ceil(tonumber(ARGV[3])) + 1, ARGV[1])
end
return false
"""
# Takes a token away, that there be as many as slots. Where there is none, a request has counted on this slot.
_LEAVE = """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then return false end
if #redis.call('ZPOPMIN', KEYS[2]) > 0 then return false end
return redis.call('LMOVE', KEYS[1], KEYS[4], 'LEFT', 'RIGHT')
"""
# Forgets a slot. What it held comes next, or is returned where it has been tried often enough.
_FORGET = """
local request = redis.call('LPOP', KEYS[4])
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[3], ARGV[1])
if not request then return false end
local second, tries, text = string.match(request, '^(%d+) (%d+) (.*)$')
if tonumber(tries) >= tonumber(ARGV[2]) then return request end
redis.call('LPUSH', KEYS[1], second .. ' ' .. (tries + 1) .. ' ' .. text)
redis.call('ZPOPMAX', KEYS[2])
return false
"""


@cache
def _script(text: str) -> Any:
    return valkey().register_script(text)


def put(request: list[Any]) -> bool:
    """Leave a request; return whether a slot waits for it. Otherwise one has to be woken."""
    keys = [_REQUESTS, _TOKENS]
    return bool(_script(_PUT)(keys=keys, args=[json.dumps(request)]))


def take(slot: Slot, *, seconds: float) -> list[Any] | None:
    """Return the next request, waiting so long for it, or None. Those that are too old are dropped.

    The slot is done with the one before.
    """
    name = _name(slot)
    found = _run(_LOOK, name, PATIENCE_SECONDS, seconds)
    if found is None and seconds > 0:
        timeout: Any = seconds  # Valkey takes parts of seconds.
        found = valkey().blmove(_REQUESTS, _held_by(name), timeout) or _run(_LEAVE, name)
    return None if found is None else _read(found)


def recover(worker: str) -> list[list[Any]]:
    """Let what slots of a worker held as they ended be made by others.

    Return the requests that have ended a slot each time they were tried.
    """
    pipe = valkey().pipeline(transaction=False)
    pipe.time()
    pipe.zrange(_SLOTS, 0, -1, withscores=True)
    (now, _), slots = pipe.execute()
    given_up = []
    for name, since in slots:
        of, _, pid = name.decode().rpartition("/")
        if (of == worker and fleet.has_ended(int(pid))) or since < now - _FORGET_SECONDS:
            given_up.append(_run(_FORGET, name.decode(), claims.MAX_ATTEMPTS))
    return [_read(request) for request in given_up if request is not None]


def waiting(worker: str) -> int:
    """Return about how many slots of a worker wait for a request, with nothing to do."""
    names: Any = valkey().zrange(_TOKENS, 0, -1)
    return sum(name.decode().rpartition("/")[0] == worker for name in names)


def drop() -> None:
    """Forget all requests: nobody is there to make them."""
    valkey().delete(_REQUESTS)


def _name(slot: Slot) -> str:
    return f"{slot.worker}/{slot.pid}"


def _held_by(name: str) -> str:
    return f"ipau:preview:held:{name}"


def _read(request: bytes) -> list[Any]:
    found: list[Any] = json.loads(request.split(b" ", 2)[2])
    return found


def _run(script: str, name: str, *args: object) -> Any:
    """Run a script on behalf of a slot."""
    return _script(script)(keys=[_REQUESTS, _TOKENS, _SLOTS, _held_by(name)], args=[name, *args])
