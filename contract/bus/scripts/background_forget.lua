-- Forget ended background jobs: one, or those whose time is up and the oldest beyond what all may take.
-- KEYS: kept jobs by when they are forgotten, bytes of all records, webhooks by when they are due
-- ARGV: prefix of records, prefix of the jobs of a key, id (empty: as many as must go), bytes that may stay, most at once
-- Answers how many were forgotten. (All keys have the same hash tag.)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function forget(id)
  local record = redis.pcall('HMGET', ARGV[1] .. id, 'size', 'key')
  redis.call('DEL', ARGV[1] .. id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[3], id)
  if record[1] then
    redis.call('ZREM', ARGV[2] .. record[2], id)
    redis.call('DECRBY', KEYS[2], record[1])
  end
end
if ARGV[3] ~= '' then
  if not redis.call('ZSCORE', KEYS[1], ARGV[3]) then
    return 0
  end
  forget(ARGV[3])
  return 1
end
local forgotten = 0
while forgotten < tonumber(ARGV[5]) do
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  local bytes = tonumber(redis.call('GET', KEYS[2]) or 0)
  if not first[1] or (tonumber(first[2]) > now and bytes <= tonumber(ARGV[4])) then
    return forgotten
  end
  forget(first[1])
  forgotten = forgotten + 1
end
return forgotten
