"""The queue of preview requests in Valkey, and the slots that take requests from it.

A Celery message wakes a slot to look here. A slot that has just made a preview waits a little for the next
one, because a slider asks again soon, and a message takes longer than all the rest. A waiting slot leaves a
token. A request that finds a token goes to the list of ready requests, on which waiting slots block; each one
there has used up one token. So there are as many tokens as waiting slots, less the ready requests; which slot
left which token does not matter. All other requests wait in the list of requests.

One person never holds all slots: of n slots, at most n - 1 run requests of one person at the same time. A
request beyond that bound is passed over until one of the same person's ends. The slot that ends it looks for
the next request at once, so a request that is passed over needs no message. Among the people below the bound,
the one with the fewest running requests is next, then the one served longest ago.

A request moves to its slot's own list, which outlives the slot. When a slot is killed, Celery gives its
message to another slot of the worker, which finds there what the killed one held. Counts of running requests
are read from these lists and stored nowhere, so nothing has to be corrected after a crash.

Each step is one script, which runs alone. All times are Valkey's.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from processing.fleet import registry
from processing.fleet.registry import Slot
from processing.previews import channel
from processing.previews.channel import PATIENCE_SECONDS, valkey

# A request that ended its slot is tried once more.
MAX_TRIES = 2
# Requests that one person may have in the list. One more takes the place of the oldest.
MOST_WAITING = 8

_PREFIX = "ipau:preview"
_KEYS = [
    f"{_PREFIX}:waiting",
    f"{_PREFIX}:ready",
    f"{_PREFIX}:tokens",
    # Names of slots, and when each last looked for a request.
    f"{_PREFIX}:slots",
    # Workers that serve previews alone, and at their last heartbeat: the second, and how many slots they had.
    f"{_PREFIX}:fleet",
    # People, and when each was last served.
    f"{_PREFIX}:turns",
]
# After this nobody waits for a request that a slot holds, even if the slot still runs.
_FORGET_SECONDS = 3600
# A slot holds a request this long at most: the patience of a request, then the hard limit of the task.
_HELD_SECONDS = PATIENCE_SECONDS + 2 * PATIENCE_SECONDS + 30
# A request that is longer lies beside the lists, because scripts read their entries.
_LONGEST_BYTES = 4096

# An entry is "second tries person id json". The json of a long request is empty.
_COMMON = """
local WAITING, READY, TOKENS, SLOTS, FLEET, TURNS, HELD = unpack(KEYS)
local NAME, PATIENCE, DEAD, LONGEST_HELD = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1])
-- Bounds the work of one script. The list is bounded by what may wait in web processes.
local SCANNED = 200

local function read(entry)
    local second, tries, person, id = string.match(entry, '^(%d+) (%d+) (%S*) (%S*) ')
    return tonumber(second), tonumber(tries), person, id
end

-- Returns the number of running requests by person, and how many of them one person may have.
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
        -- A worker that serves other queues too sends no heartbeat here: its slots count as they come by.
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

-- Returns the entry that is next, or nil. Drops those whose asker has gone.
local function choose(running, bound)
    local best, fewest, longest_ago, seen = nil, nil, nil, {}
    for _, entry in ipairs(redis.call('LRANGE', WAITING, 0, SCANNED - 1)) do
        local second, _, person = read(entry)
        if second + PATIENCE < now then
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

-- Takes an entry out of the list, for a slot to run it.
local function begin(entry, running)
    local _, _, person = read(entry)
    redis.call('LREM', WAITING, 1, entry)
    redis.call('ZREMRANGEBYSCORE', TURNS, '-inf', (now - 60) * 1000000)
    redis.call('ZADD', TURNS, now * 1000000 + tonumber(time[2]), person)
    redis.call('EXPIRE', TURNS, 60)
    running[person] = (running[person] or 0) + 1
end

-- Gives requests to the slots that wait. Returns 1 where one is left that a slot has to be woken for, else 0.
-- An overdue token is a dead slot's.
local function hand_over()
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
# Returns what `hand_over` does, and the ids of older requests of the person that gave way.
_PUT = """
local person, id, text, long_text, most = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
if long_text ~= '' then redis.call('SET', 'ipau:preview:body:' .. id, long_text, 'EX', LONGEST_HELD) end
redis.call('RPUSH', WAITING, now .. ' 1 ' .. person .. ' ' .. id .. ' ' .. text)
local result = {hand_over()}
if redis.call('LLEN', WAITING) <= most then return result end
local own = {}
for _, entry in ipairs(redis.call('LRANGE', WAITING, 0, -1)) do
    local _, _, whose, of = read(entry)
    if whose == person then own[#own + 1] = {entry, of} end
end
for place = 1, #own - most do
    redis.call('LREM', WAITING, 1, own[place][1])
    result[#result + 1] = own[place][2]
end
return result
"""
# Forgets what the slot held, and returns its next request. Where there is none, leaves a token if told to.
_LOOK = """
local seconds = tonumber(ARGV[5])
redis.call('DEL', HELD)
redis.call('ZADD', SLOTS, now, NAME)
while true do
    local entry = redis.call('LMOVE', READY, HELD, 'LEFT', 'RIGHT')
    if not entry then break end
    if read(entry) + PATIENCE >= now then
        hand_over()
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
        hand_over()
        return entry
    end
end
if seconds > 0 then redis.call('ZADD', TOKENS, now + math.ceil(seconds) + 1, NAME) end
return false
"""
# Removes a token, so that there are as many as slots. If there is none, a request has counted on this slot.
_LEAVE = """
if redis.call('ZREM', TOKENS, NAME) == 1 then return false end
if #redis.call('ZPOPMIN', TOKENS) > 0 then return false end
return redis.call('LMOVE', READY, HELD, 'LEFT', 'RIGHT')
"""
# Forgets what the slot held; returns what `hand_over` does.
_END = """
redis.call('DEL', HELD)
return hand_over()
"""
# Forgets a slot. Its request comes next, or is returned if it has been tried often enough. If the asker has
# gone, it is dropped.
_FORGET = """
local entry = redis.call('LPOP', HELD)
redis.call('DEL', HELD)
redis.call('ZREM', SLOTS, NAME)
if not entry then return false end
local second, tries, _, id = read(entry)
if not second or second + PATIENCE <= now then return false end
if redis.call('EXISTS', 'ipau:preview:gone:' .. id) == 1 then return false end
if tries >= tonumber(ARGV[5]) then return entry end
local _, ends = string.find(entry, '^%d+ %d+')
redis.call('LPUSH', WAITING, second .. ' ' .. (tries + 1) .. string.sub(entry, ends + 1))
hand_over()
return false
"""
# Removes a request that waits, or marks the one that a slot runs.
_WITHDRAW = """
local id = ARGV[5]
redis.call('DEL', 'ipau:preview:body:' .. id)
for _, list in ipairs({WAITING, READY}) do
    for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
        local _, _, _, of = read(entry)
        if of == id then return redis.call('LREM', list, 1, entry) end
    end
end
redis.call('SET', 'ipau:preview:gone:' .. id, '', 'EX', LONGEST_HELD)
return 0
"""
# Returns 1 where a slot has to be woken: for a request that waits, or for one whose waiting slot has died.
_STIR = """
local left = hand_over()
return redis.call('LLEN', READY) > 0 and 1 or left
"""
# Records the heartbeat of a worker, and forgets workers that have been silent for long.
_SIGN_ON = """
local workers = redis.call('HGETALL', FLEET)
for place = 1, #workers, 2 do
    local second = string.match(workers[place + 1], '^%d+')
    if tonumber(second) + tonumber(ARGV[6]) < now then redis.call('HDEL', FLEET, workers[place]) end
end
redis.call('HSET', FLEET, NAME, now .. ' ' .. ARGV[5])
"""


def put(request: list[Any], *, person: str = "") -> bool:
    """Leave a request, whose first part is its id; return whether no slot has to be woken for it.

    If the person has too many requests in the list, their oldest ones are answered with `SUPERSEDED`.

    Args:
        person: who asks, without white space. Nobody in particular is one person too.
    """
    request_id, text = str(request[0]), json.dumps(request)
    texts = (text, "") if len(text) <= _LONGEST_BYTES else ("", text)
    left, *given_way = _run(_PUT, "", person, request_id, *texts, MOST_WAITING)
    superseded = channel.Answer(error_code=channel.SUPERSEDED, error="Newer previews of yours wait.")
    for other in given_way:
        channel.answer(other.decode(), "", superseded)
    return not left


def take(slot: Slot, *, seconds: float) -> list[Any] | None:
    """Return the next request, waiting this long for it, or None. Requests whose asker has gone are dropped.

    The slot is done with the one before.
    """
    name = _name(slot)
    while True:
        found = _run(_LOOK, name, seconds)
        if found is None and seconds > 0:
            timeout: Any = seconds  # Valkey takes parts of seconds.
            found = valkey().blmove(_KEYS[1], _held_by(name), timeout) or _run(_LEAVE, name)
        if found is None:
            return None
        request = _read(found)
        if request is not None:
            return request


def end(slot: Slot) -> bool:
    """Say that a slot is done with its request and takes no other; return whether to wake another slot."""
    return bool(_run(_END, _name(slot)))


def recover(worker: str) -> list[list[Any]]:
    """Let other slots make what slots of a worker held as they ended, where somebody still waits for it.

    Return the requests that ended a slot each time they were tried.
    """
    pipe = valkey().pipeline(transaction=False)
    pipe.time()
    pipe.zrange(_KEYS[3], 0, -1, withscores=True)
    (now, _), slots = pipe.execute()
    given_up = []
    for name, since in slots:
        of, _, pid = name.decode().rpartition("/")
        if (of == worker and registry.has_ended(int(pid))) or since < now - _FORGET_SECONDS:
            given_up.append(_run(_FORGET, name.decode(), MAX_TRIES))
    requests = [_read(entry) for entry in given_up if entry is not None]
    return [request for request in requests if request is not None]


def withdraw(request_id: str) -> None:
    """Take a request back, because nobody waits for its answer any more: it is not begun nor tried again."""
    _run(_WITHDRAW, "", request_id)


def stir() -> bool:
    """Give requests to slots that wait for one; return whether a slot has to be woken for what is left.

    Whoever waits calls this now and then: a message, or a slot with all that it knew, may have been lost.
    """
    return bool(_run(_STIR, ""))


def sign_on(worker: str, *, slots: int) -> None:
    """Record how many slots a worker has that serves previews alone."""
    _run(_SIGN_ON, worker, slots, _FORGET_SECONDS)


def sign_off(worker: str) -> None:
    """Forget a worker that stops on its own."""
    valkey().hdel(_KEYS[4], worker)


def waiting(worker: str) -> int:
    """Return about how many slots of a worker wait for a request, with nothing to do."""
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
    """Return the request of an entry; None if it was long and has expired."""
    request_id, text = entry.split(b" ", 4)[3:]
    body: Any = text or valkey().get(f"{_PREFIX}:body:{request_id.decode()}")
    found: list[Any] | None = json.loads(body) if body else None
    return found


def _run(script: str, name: str, *args: object) -> Any:
    """Run a script on behalf of a slot or worker; `name` is empty for others."""
    dead_after = int(registry.DEAD_AFTER.total_seconds())
    common: list[object] = [name, PATIENCE_SECONDS, dead_after, _HELD_SECONDS]
    return _script(script)(keys=[*_KEYS, _held_by(name)], args=[*common, *args])
