-- Whether a job is to blame for the workers that it lost. Only those count that it had to itself, one after the other,
-- without getting on in between: of several jobs that were in a worker together, it is not known which broke it. Who
-- kills workers whatever they do hits a job alone in one by chance, so such a loss counts little; a crash counts in full.
--   ended_by:WORKER  what ended it, as its supervisor says; none: it is not known, as after the loss of a host
--   job:ID           `evidence`: the sum of the losses; `alone`: the attempt that has a worker to itself
local WEIGHTS = {itself = 4, unclear = 2, outside = 1}
local CONVINCED = 4

local function ended_by(prefix, worker)
  return redis.call('GET', prefix .. 'ended_by:' .. worker) or 'outside'
end

-- A job has lost a worker that it had to itself. Answers whether it is known to be to blame.
local function blame(prefix, job_key, worker)
  local weight = WEIGHTS[ended_by(prefix, worker)] or 1
  return redis.call('HINCRBY', job_key, 'evidence', weight) >= CONVINCED
end
