-- See whose turn it is, for a worker that has no room.
-- KEYS: queue
-- Answers {entry, place}, or {} if none waits.
local prefix = prefix_of(KEYS[1])
redis.call('SET', prefix .. 'crowded', 1, 'PX', 1500)
local entry = first(prefix, time_ms())
return entry and {entry, redis.call('HGET', prefix .. 'places', entry)} or {}
