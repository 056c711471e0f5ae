-- Claim entries whose worker's lease has ended; a script runs alone, so no lock is needed. Not while
-- the clock may have leapt: then all leases have ended, and who lives renews its own soon.
-- KEYS: queue, leases, whether one has lapsed just now
-- ARGV: group, worker, max entries
-- Answers the claimed entries, as XCLAIM does.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local own = redis.call('ZSCORE', KEYS[2], ARGV[2])
if (own and tonumber(own) < now) or redis.call('EXISTS', KEYS[3]) == 1 then
  return {}
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then
  return {}
end
local claimed = {}
for _, info in ipairs(consumers) do
  local name, pending = info[2], info[4]
  local lease = redis.call('ZSCORE', KEYS[2], name)
  if name ~= ARGV[2] and not (lease and tonumber(lease) >= now) then
    if pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    elseif #claimed < tonumber(ARGV[3]) then
      local entries = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3] - #claimed, name)
      for _, entry in ipairs(entries) do
        for _, taken in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry[1])) do
          table.insert(claimed, taken)
        end
      end
    end
  end
end
return claimed
