"""The queue of preview requests in Valkey, and the slots that take requests from it.

A Celery message wakes a slot to look here. After a preview, a slot waits briefly for the next request: a
moving slider sends one soon, and a message would take longer than the preview. A waiting slot adds a token. A
request that finds a token goes to the list of ready requests, on which waiting slots block, and uses up that
token. So the number of tokens is the number of waiting slots minus the number of ready requests. It does not
matter which slot added which token. All other requests wait in the list of waiting requests.

One account never holds all slots: of n slots, at most n - 1 run requests of one account at the same time. A
request above that limit waits until another one of its account ends. The slot that ends it looks for the next
request at once, so the waiting request needs no message. Among the accounts below the limit, the one with the
fewest running requests is next, then the one served longest ago.

A request moves to the list of its slot, which survives the slot. When a slot is killed, Celery gives its
message to another slot of the worker, which recovers the request from that list. The numbers of running
requests are counted from these lists and stored nowhere, so a crash leaves nothing to correct.

Each step is one Lua script, which is atomic. All times are those of Valkey.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from processing.fleet import registry
from processing.fleet.registry import Slot
from processing.previews import channel
from processing.previews.channel import REQUEST_TIMEOUT_SECONDS, valkey

# A request that killed its slot is tried once more.
MAX_TRIES = 2
# Waiting requests of one account. A further one replaces the oldest.
MOST_WAITING = 8

_PREFIX = "ipau:preview"
_KEYS = [
    f"{_PREFIX}:waiting",
    f"{_PREFIX}:ready",
    f"{_PREFIX}:tokens",
    # Slot names, and when each slot last looked for a request.
    f"{_PREFIX}:slots",
    # Workers that serve only previews: time of the last heartbeat (second) and number of slots.
    f"{_PREFIX}:fleet",
    # Accounts, and when each was last served.
    f"{_PREFIX}:turns",
]
# After this long, the request of a slot is forgotten, even if the slot still runs.
_FORGET_SECONDS = 3600
# A slot holds a request at most this long: the request timeout, then the hard limit of the task.
_HELD_SECONDS = REQUEST_TIMEOUT_SECONDS + 2 * REQUEST_TIMEOUT_SECONDS + 30
# A longer request is stored outside the lists, because scripts read the entries.
_LONGEST_BYTES = 4096

# An entry is "second tries account id json". The json of a long request is empty.
_COMMON = """
local WAITING, READY, TOKENS, SLOTS, FLEET, TURNS, HELD = unpack(KEYS)
local NAME, TIMEOUT, DEAD, LONGEST_HELD = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1])
-- Bounds the work of one script. Web processes bound the length of the list.
local SCANNED = 200

local function read(entry)
    local second, tries, person, id = string.match(entry, '^(%d+) (%d+) (%S*) (%S*) ')
    return tonumber(second), tonumber(tries), person, id
end

-- Returns the number of running requests by account, and the limit for one account.
local function usage()
    local running, fleet, slots = {}, {}, 0
    local workers = redis.call('HGETALL', FLEET)
    for place = 1, #workers, 2 do
        local second, number = string.match(workers[place + 1], '^(%d+) (%d+)$')
        fleet[workers[place]] = tonumber(second) + DEAD >= now
        if fleet[workers[place]] then slots = slots + tonumber(number) end
    end
    local names = redis.call('ZRANGE', SLOTS, 0, -1, 'WITHSCORES')
    for place = 1, #names, 2 do
        local alive = fleet[string.match(names[place], '^(.*)/%d+$')]
        -- A worker of several queues sends no heartbeat here. Its slots count when they look for requests.
        if alive == nil and tonumber(names[place + 1]) + 60 >= now then slots = slots + 1 end
        local entry = alive ~= false and redis.call('LINDEX', 'ipau:preview:held:' .. names[place], 0)
        if entry then
            local second, _, person = read(entry)
            if second and second + LONGEST_HELD >= now then running[person] = (running[person] or 0) + 1 end
        end
    end
    for _, entry in ipairs(redis.call('LRANGE', READY, 0, -1)) do
        local _, _, person = read(entry)
        running[person] = (running[person] or 0) + 1
    end
    return running, math.max(1, slots - 1)
end

-- Returns the next entry, or nil. Deletes entries that have timed out.
local function choose(running, bound)
    local best, fewest, longest_ago, seen = nil, nil, nil, {}
    for _, entry in ipairs(redis.call('LRANGE', WAITING, 0, SCANNED - 1)) do
        local second, _, person = read(entry)
        if second + TIMEOUT < now then
            redis.call('LREM', WAITING, 1, entry)
        elseif not seen[person] then
            seen[person] = true
            local number = running[person] or 0
            if number < bound then
                local served = tonumber(redis.call('ZSCORE', TURNS, person) or 0)
                if not best or number < fewest or (number == fewest and served < longest_ago) then
                    best, fewest, longest_ago = entry, number, served
                end
            end
        end
    end
    return best
end

-- Removes an entry from the list, for a slot to run it.
local function begin(entry, running)
    local _, _, person = read(entry)
    redis.call('LREM', WAITING, 1, entry)
    redis.call('ZREMRANGEBYSCORE', TURNS, '-inf', (now - 60) * 1000000)
    redis.call('ZADD', TURNS, now * 1000000 + tonumber(time[2]), person)
    redis.call('EXPIRE', TURNS, 60)
    running[person] = (running[person] or 0) + 1
end

-- Assigns requests to waiting slots. Returns 1 if a slot must be woken for a remaining request, else 0.
-- An expired token belongs to a dead slot.
local function assign()
    if redis.call('LLEN', WAITING) == 0 then return 0 end
    local running, bound = usage()
    while true do
        local entry = choose(running, bound)
        if not entry then return 0 end
        local token = redis.call('ZPOPMAX', TOKENS)
        if #token == 0 then return 1 end
        if tonumber(token[2]) < now then
            redis.call('DEL', TOKENS)
            return 1
        end
        begin(entry, running)
        redis.call('RPUSH', READY, entry)
    end
end
"""
# Returns the result of `assign`, and the ids of older requests of the account that were replaced.
_PUT = """
local person, id, text, long_text, most = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
if long_text ~= '' then redis.call('SET', 'ipau:preview:body:' .. id, long_text, 'EX', LONGEST_HELD) end
redis.call('RPUSH', WAITING, now .. ' 1 ' .. person .. ' ' .. id .. ' ' .. text)
local result = {assign()}
if redis.call('LLEN', WAITING) <= most then return result end
local own = {}
for _, entry in ipairs(redis.call('LRANGE', WAITING, 0, -1)) do
    local _, _, account, entry_id = read(entry)
    if account == person then own[#own + 1] = {entry, entry_id} end
end
for place = 1, #own - most do
    redis.call('LREM', WAITING, 1, own[place][1])
    result[#result + 1] = own[place][2]
end
return result
"""
# Forgets the last request of the slot and returns its next one. If there is none, adds a token if asked to.
_LOOK = """
local seconds = tonumber(ARGV[5])
redis.call('DEL', HELD)
redis.call('ZADD', SLOTS, now, NAME)
while true do
    local entry = redis.call('LMOVE', READY, HELD, 'LEFT', 'RIGHT')
    if not entry then break end
    if read(entry) + TIMEOUT >= now then
        assign()
        return entry
    end
    redis.call('DEL', HELD)
end
if redis.call('LLEN', WAITING) > 0 then
    local running, bound = usage()
    local entry = choose(running, bound)
    if entry then
        begin(entry, running)
        redis.call('RPUSH', HELD, entry)
        assign()
        return entry
    end
end
if seconds > 0 then redis.call('ZADD', TOKENS, now + math.ceil(seconds) + 1, NAME) end
return false
"""
# Removes one token, if possible that of this slot. If none is left, a request is assigned to this slot.
_LEAVE = """
if redis.call('ZREM', TOKENS, NAME) == 1 then return false end
if #redis.call('ZPOPMIN', TOKENS) > 0 then return false end
return redis.call('LMOVE', READY, HELD, 'LEFT', 'RIGHT')
"""
# Forgets the request of the slot; returns the result of `assign`.
_END = """
redis.call('DEL', HELD)
return assign()
"""
# Forgets a slot. Its request is queued first, or returned after too many tries. A request that has timed out
# or was canceled is dropped.
_FORGET = """
local entry = redis.call('LPOP', HELD)
redis.call('DEL', HELD)
redis.call('ZREM', SLOTS, NAME)
if not entry then return false end
local second, tries, _, id = read(entry)
if not second or second + TIMEOUT <= now then return false end
if redis.call('EXISTS', 'ipau:preview:gone:' .. id) == 1 then return false end
if tries >= tonumber(ARGV[5]) then return entry end
local _, ends = string.find(entry, '^%d+ %d+')
redis.call('LPUSH', WAITING, second .. ' ' .. (tries + 1) .. string.sub(entry, ends + 1))
assign()
return false
"""
# Removes a waiting request, or marks a running one as canceled.
_CANCEL = """
local id = ARGV[5]
redis.call('DEL', 'ipau:preview:body:' .. id)
for _, list in ipairs({WAITING, READY}) do
    for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
        local _, _, _, entry_id = read(entry)
        if entry_id == id then return redis.call('LREM', list, 1, entry) end
    end
end
redis.call('SET', 'ipau:preview:gone:' .. id, '', 'EX', LONGEST_HELD)
return 0
"""
# Returns 1 if a slot must be woken: for a waiting request, or for a ready one of a dead slot.
_ASSIGN = """
local left = assign()
return redis.call('LLEN', READY) > 0 and 1 or left
"""
# Records the heartbeat of a worker, and forgets workers with old heartbeats.
_SIGN_ON = """
local workers = redis.call('HGETALL', FLEET)
for place = 1, #workers, 2 do
    local second = string.match(workers[place + 1], '^%d+')
    if tonumber(second) + tonumber(ARGV[6]) < now then redis.call('HDEL', FLEET, workers[place]) end
end
redis.call('HSET', FLEET, NAME, now .. ' ' .. ARGV[5])
"""


def put(request: list[Any], *, person: str = "") -> bool:
    """Queue a request; return whether a slot will take it without a wake-up.

    If the account has too many waiting requests, the oldest ones are answered with `SUPERSEDED`.

    Args:
        request: the first entry is its id.
        person: key of the account, without white space. All anonymous requests share the empty key.
    """
    request_id, text = str(request[0]), json.dumps(request)
    texts = (text, "") if len(text) <= _LONGEST_BYTES else ("", text)
    left, *replaced = _run(_PUT, "", person, request_id, *texts, MOST_WAITING)
    superseded = channel.Answer(error_code=channel.SUPERSEDED, error="Newer previews replaced this one.")
    for other in replaced:
        channel.answer(other.decode(), "", superseded)
    return not left


def take(slot: Slot, *, seconds: float) -> list[Any] | None:
    """Return the next request after waiting up to `seconds`, or None. Drops requests that timed out.

    This also ends the previous request of the slot.
    """
    name = _name(slot)
    while True:
        entry = _run(_LOOK, name, seconds)
        if entry is None and seconds > 0:
            timeout: Any = seconds  # Valkey accepts fractions of seconds.
            entry = valkey().blmove(_KEYS[1], _held_by(name), timeout) or _run(_LEAVE, name)
        if entry is None:
            return None
        request = _read(entry)
        if request is not None:
            return request


def end(slot: Slot) -> bool:
    """End the request of a slot that takes no other; return whether to wake another slot."""
    return bool(_run(_END, _name(slot)))


def recover(worker: str) -> list[list[Any]]:
    """Queue the requests of dead slots of a worker again, unless they timed out.

    Returns the requests that killed a slot at each try. They are not queued again.
    """
    pipe = valkey().pipeline(transaction=False)
    pipe.time()
    pipe.zrange(_KEYS[3], 0, -1, withscores=True)
    (now, _), slots = pipe.execute()
    failed = []
    for name, since in slots:
        owner, _, pid = name.decode().rpartition("/")
        if (owner == worker and registry.has_ended(int(pid))) or since < now - _FORGET_SECONDS:
            failed.append(_run(_FORGET, name.decode(), MAX_TRIES))
    requests = [_read(entry) for entry in failed if entry is not None]
    return [request for request in requests if request is not None]


def cancel(request_id: str) -> None:
    """Cancel a request: it is not started, nor retried."""
    _run(_CANCEL, "", request_id)


def assign() -> bool:
    """Assign waiting requests to waiting slots; return whether a slot must be woken for the rest.

    Waiting requests call this regularly, because a wake-up or a slot may have been lost.
    """
    return bool(_run(_ASSIGN, ""))


def sign_on(worker: str, *, slots: int) -> None:
    """Record the number of slots of a worker that serves only previews."""
    _run(_SIGN_ON, worker, slots, _FORGET_SECONDS)


def sign_off(worker: str) -> None:
    """Forget a worker that shuts down."""
    valkey().hdel(_KEYS[4], worker)


def waiting(worker: str) -> int:
    """Return the approximate number of idle slots of a worker that wait for a request."""
    names: Any = valkey().zrange(_KEYS[2], 0, -1)
    return sum(name.decode().rpartition("/")[0] == worker for name in names)


def drop() -> None:
    """Forget all requests, because no worker serves them."""
    valkey().delete(*_KEYS[:2])


@cache
def _script(text: str) -> Any:
    return valkey().register_script(_COMMON + text)


def _name(slot: Slot) -> str:
    return f"{slot.worker}/{slot.pid}"


def _held_by(name: str) -> str:
    return f"{_PREFIX}:held:{name}"


def _read(entry: bytes) -> list[Any] | None:
    """Return the request of an entry, or None if its separately stored body has expired."""
    request_id, text = entry.split(b" ", 4)[3:]
    body: Any = text or valkey().get(f"{_PREFIX}:body:{request_id.decode()}")
    request: list[Any] | None = json.loads(body) if body else None
    return request


def _run(script: str, name: str, *args: object) -> Any:
    """Run a script for a slot or worker. `name` is empty if there is neither."""
    dead_after = int(registry.DEAD_AFTER.total_seconds())
    common: list[object] = [name, REQUEST_TIMEOUT_SECONDS, dead_after, _HELD_SECONDS]
    return _script(script)(keys=[*_KEYS, _held_by(name)], args=[*common, *args])
