-- Put a job on its model's queue, once: asking again for the same job answers what became of it.
-- KEYS: queue, job, ready workers, hosts that would load the model
-- ARGV: group, payload, digest, reply stream, first reply id, max waiting, deadline ms, keep ms, must be served (1 or 0),
--   max bytes of the queue (0: any), lane, weight, tokens, job id, API key id, wanted within ms (0: the deadline), limits
--   (JSON; empty: none), tokens that it may take, then a digest and the bytes of each medium
-- Answers {'queued', waiting, counts of each subject}, {'limited', subject, limit's name, limit, used, s to wait},
--   {'known', digest, reply, first, state}, {'full', waiting}, {'large', bytes} or {'unserved'}.
local known = redis.call('HMGET', KEYS[2], 'digest', 'reply', 'first', 'state', 'cancelled')
if known[4] then
  local state = known[5] and known[4] == 'running' and 'cancelled' or known[4]
  return {'known', known[1], known[2], known[3], state}
end
local now = time_ms()
if ARGV[9] == '1' and redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0
    and redis.call('ZCOUNT', KEYS[4], now, '+inf') == 0 then
  return {'unserved'}
end
local limits, tokens, kept_ms = {}, tonumber(ARGV[18]), ARGV[7] + ARGV[8]
if ARGV[17] ~= '' then
  limits = cjson.decode(ARGV[17])
end
local of_media = 0
for i = 20, #ARGV, 2 do
  of_media = of_media + #ARGV[i]
end
local size = #ARGV[2] + of_media
local counts, refused = may_come(limits, tokens, size, now)
if not counts then
  return {'limited', unpack(refused)}
end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[1]) - pending[1]
if waiting >= tonumber(ARGV[6]) then
  return {'full', waiting}
end
if tonumber(ARGV[10]) > 0 then
  -- Exact, and cheap: an entry that is large has a node of its own, whose size is known.
  local bytes = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0') or 0
  local media = media_bytes(KEYS[2])
  if media > 0 and bytes + media + size > tonumber(ARGV[10]) then
    media = recount_media(KEYS[2])
  end
  if bytes + media + size > tonumber(ARGV[10]) then
    return {'large', bytes + media}
  end
end
local entry = redis.call('XADD', KEYS[1], '*', 'job', ARGV[2])
local place = table.concat({ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]}, ' ')
local wanted = now + tonumber(ARGV[16] == '0' and ARGV[7] or ARGV[16])
redis.call('HSET', KEYS[2], 'entry', entry, 'state', 'queued', 'attempt', 0, 'digest', ARGV[3], 'reply', ARGV[4],
  'first', ARGV[5], 'deadline', now + tonumber(ARGV[7]), 'place', place, 'wanted', wanted)
local prefix = prefix_of(KEYS[1])
if join(prefix, entry, place, wanted, now) and redis.call('EXISTS', prefix .. 'crowded') == 1
    and redis.call('SET', prefix .. 'told', 1, 'NX', 'PX', 20) then
  redis.call('XADD', prefix .. 'cancel', 'MAXLEN', '~', 10000, '*', 'job', '')
  redis.call('PEXPIRE', prefix .. 'cancel', ARGV[8])
end
if #limits > 0 then
  let_in(limits, KEYS[2], ARGV[14], tokens, size, kept_ms, now)
end
if of_media > 0 then
  keep_media(KEYS[2], ARGV, 19, of_media, kept_ms)
end
redis.call('PEXPIRE', KEYS[2], kept_ms)
return {'queued', waiting, counts}
