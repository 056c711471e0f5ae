-- The records of jobs. Comes before all other parts.
--   job:ID   hash; its fields are named where they are written
local function job_of(job_key)
  return string.match(job_key, ':job:(.*)$')
end

-- All that scripts which end a job look at, read in one call.
local RECORD = {'state', 'worker', 'entry', 'attempt', 'begun', 'cancelled', 'place', 'reply', 'yielded', 'poison', 'began',
  'workers', 'used', 'subjects', 'reserved', 'let_in', 'moved_from', 'moved_to'}

-- The record of a job, with those fields and some others.
local function read_job(job_key, ...)
  local names = RECORD
  if select('#', ...) > 0 then
    names = {unpack(RECORD)}
    for _, name in ipairs({...}) do
      table.insert(names, name)
    end
  end
  local job, found = {key = job_key, id = job_of(job_key)}, redis.call('HMGET', job_key, unpack(names))
  for i, name in ipairs(names) do
    job[name] = found[i] or nil
  end
  return job
end

-- The id of the API key of a job: the last word of its place (`turns.lua`).
local function key_of(job)
  return string.match(job.place or '', '^%S+ %S+ %S+ %S* (.*)$') or ''
end
