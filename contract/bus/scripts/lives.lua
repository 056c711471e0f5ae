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

local function keep_life(prefix, job, state, use)
  local life = {job.id, state, key_of(job), job.entry or '', job.reply or '', job.yielded or 0, job.poison or 0}
  local moves = {}
  if job.moved_from then
    moves = {'from', job.moved_from}
  end
  if job.moved_to then
    moves = {'to', job.moved_to, unpack(moves)}
  end
  redis.call('XADD', prefix .. 'lives', 'MAXLEN', '~', MOST_LIVES, '*', 'job', table.concat(life, ' '), 'use', use,
    'began', shortened(job.began or ''), 'workers', shortened(job.workers or ''), unpack(moves))
end

-- Forget lives that ended so many days ago (nil: it is not known how many), and all, once none comes for so long.
local function forget_lives(prefix, now_s, days)
  if days then
    redis.call('XTRIM', prefix .. 'lives', 'MINID', '~', string.format('%.0f', (now_s - days * 86400) * 1000))
    redis.call('PEXPIRE', prefix .. 'lives', days * 86400000)
  else
    redis.call('PEXPIRE', prefix .. 'lives', LIVES_KEPT_MS, 'NX')
  end
end
