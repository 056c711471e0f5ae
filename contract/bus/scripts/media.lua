-- The images, sounds and videos of jobs, which are beside the queue's stream. Part of every script that lets a job in, or
-- ends one; comes before `limits`.
--   job:ID:media   hash: digest -> bytes
--   media          hash: job -> size of all of its media, of jobs that have some; `total`: of all jobs
local function media_index(job_key)
  return string.sub(job_key, 1, #job_key - #job_of(job_key) - 4) .. 'media'
end

-- Drop the media of jobs, of which most have none.
local function drop_media(job_keys)
  local keys = {}
  for i, job_key in ipairs(job_keys) do
    keys[i] = job_key .. ':media'
  end
  if #keys == 0 or redis.call('EXISTS', unpack(keys)) == 0 then
    return
  end
  for i, job_key in ipairs(job_keys) do
    local index, job = media_index(job_key), job_of(job_key)
    local size = redis.call('DEL', keys[i]) == 1 and redis.call('HGET', index, job)
    if size then
      redis.call('HDEL', index, job)
      redis.call('HINCRBY', index, 'total', -size)
    end
  end
end

-- How many bytes the media of a queue's jobs take.
local function media_bytes(job_key)
  return tonumber(redis.call('HGET', media_index(job_key), 'total') or 0)
end

-- The media of a job go with it to another queue.
local function move_media(from, to, size, kept_ms)
  redis.call('RENAME', from .. ':media', to .. ':media')
  redis.call('HDEL', media_index(from), job_of(from))
  redis.call('HINCRBY', media_index(from), 'total', -size)
  local index = media_index(to)
  redis.call('HSET', index, job_of(to), size)
  redis.call('HINCRBY', index, 'total', size)
  if redis.call('PTTL', index) < kept_ms then
    redis.call('PEXPIRE', index, kept_ms)
  end
end

-- Count again without jobs that ended by their expiry alone, as after a failover. Answers how many bytes are left.
local function recount_media(job_key)
  local index = media_index(job_key)
  local prefix = string.sub(index, 1, -6)
  local sizes = redis.call('HGETALL', index)
  local total = 0
  for i = 1, #sizes, 2 do
    if sizes[i] ~= 'total' then
      if redis.call('EXISTS', prefix .. 'job:' .. sizes[i] .. ':media') == 1 then
        total = total + sizes[i + 1]
      else
        redis.call('HDEL', index, sizes[i])
      end
    end
  end
  redis.call('HSET', index, 'total', total)
  return total
end

-- Keep the media of a job that is let in: digests and bytes are the arguments from `first` to `last`.
local function keep_media(job_key, arguments, first, last, size, kept_ms)
  for i = first, last, 2 do
    redis.call('HSET', job_key .. ':media', arguments[i], arguments[i + 1])
  end
  redis.call('PEXPIRE', job_key .. ':media', kept_ms)
  local index = media_index(job_key)
  redis.call('HSET', index, job_of(job_key), size)
  redis.call('HINCRBY', index, 'total', size)
  if redis.call('PTTL', index) < kept_ms then
    redis.call('PEXPIRE', index, kept_ms)
  end
end
