-- The lives of jobs that have ended, for those who ask later what became of one. Part of every script that ends a job.
--   lives   stream: one entry a job, at its end. `job`: 'JOB STATE KEY QUEUED REPLY YIELDED POISON', with the id of its
--           entry in the queue, its reply stream, how often it yielded and 1 if it is poison; `use`: what it used
--           (`usage.lua`); `began`, `workers`: its attempts' numbers, and the worker of each; `from`, `to`: the model that
--           it came from, or went to, while it waited
local MOST_LIVES, LIVES_KEPT_MS, MOST_OF_ATTEMPTS = 20000, 7 * 86400000, 2000

-- The end of a list of words, as whole words.
local function shortened(words)
  if #words <= MOST_OF_ATTEMPTS then
    return words
  end
  return string.match(string.sub(words, -MOST_OF_ATTEMPTS), ' (.*)$') or ''
end

local function keep_life(prefix, job_key, state, use)
  local job = redis.call('HMGET', job_key, 'place', 'entry', 'reply', 'yielded', 'poison', 'began', 'workers',
    'moved_from', 'moved_to')
  local id, key = string.match(job_key, ':job:(.*)$'), string.match(job[1] or '', '(%S*)$')
  local life = {id, state, key, job[2] or '', job[3] or '', job[4] or 0, job[5] or 0}
  local moves = {}
  for i, name in ipairs({'from', 'to'}) do
    if job[7 + i] then
      table.insert(moves, name)
      table.insert(moves, job[7 + i])
    end
  end
  redis.call('XADD', prefix .. 'lives', 'MAXLEN', '~', MOST_LIVES, '*', 'job', table.concat(life, ' '), 'use', use,
    'began', shortened(job[6] or ''), 'workers', shortened(job[7] or ''), unpack(moves))
  redis.call('PEXPIRE', prefix .. 'lives', LIVES_KEPT_MS, 'NX')
end

-- Forget lives that ended so long ago.
local function forget_lives(prefix, now_s, days)
  redis.call('XTRIM', prefix .. 'lives', 'MINID', '~', string.format('%.0f', (now_s - days * 86400) * 1000))
  redis.call('PEXPIRE', prefix .. 'lives', days * 86400000)
end
