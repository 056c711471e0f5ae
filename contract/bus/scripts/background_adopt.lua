-- Take over open background jobs whose keeper is gone.
-- KEYS: keeper of each open job
-- ARGV: prefix of records, the new keeper, most at once, names of the keepers that live
-- Answers the ids of the jobs that are its own now, beside those it had; none whose record cannot be written.
local lives = {}
for i = 4, #ARGV do
  lives[ARGV[i]] = true
end
local adopted = {}
local open = redis.call('HGETALL', KEYS[1])
for i = 1, #open, 2 do
  if not lives[open[i + 1]] and #adopted < tonumber(ARGV[3]) then
    local taken = redis.pcall('HSET', ARGV[1] .. open[i], 'keeper', ARGV[2])
    if type(taken) == 'number' then
      redis.call('HSET', KEYS[1], open[i], ARGV[2])
      table.insert(adopted, open[i])
    elseif taken.err:find('READONLY', 1, true) == 1 then
      return taken
    end
  end
end
return adopted
