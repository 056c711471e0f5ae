-- All that is watched of a model.
-- KEYS: queue, dead letters; leases, ready, beats of its workers; the same of its registrations
-- ARGV: group, forget after ms
-- Answers the workers' heartbeats, the registrations, how many jobs are not over, how many of those
-- are claimed, and the id of the last dead letter ('0': none).
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
local dead = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return {
  living(KEYS[3], KEYS[4], KEYS[5], ARGV[2]),
  living(KEYS[6], KEYS[7], KEYS[8], ARGV[2]),
  redis.call('XLEN', KEYS[1]),
  pending.err and 0 or pending[1],
  dead[1] and dead[1][1] or '0',
}
