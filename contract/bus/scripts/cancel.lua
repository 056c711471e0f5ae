-- Cancel a job. While no worker runs it, it leaves the queue at once; workers that may run it are told.
-- KEYS: job, cancellations, queue, leases
-- ARGV: job id, group, keep ms
-- Answers 1 if the job was still open, 0 if not, the name of the model that it has moved to, or {'failed', why}.
local function cancel()
  local job = read_job(KEYS[1])
  if job.state == 'moved' then
    return job.moved_to
  end
  if job.state ~= 'queued' and job.state ~= 'running' then
    return 0
  end
  redis.call('HSET', KEYS[1], 'cancelled', 1)
  local now = time_ms()
  local lease = job.worker and redis.call('ZSCORE', KEYS[4], job.worker)
  local is_held = lease and tonumber(lease) >= now
  if job.entry and not is_held then
    local prefix = prefix_of(KEYS[3])
    leave(prefix, job.entry)
    redis.pcall('XACK', KEYS[3], ARGV[2], job.entry)
    redis.call('XDEL', KEYS[3], job.entry)
    redis.call('HSET', KEYS[1], 'state', 'cancelled')
    cancel_use(prefix, job, job.worker, math.floor(now / 1000))
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    write_accounts()
    write_use(prefix, math.floor(now / 1000))
  end
  if job.worker and job.worker ~= '' then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'job', ARGV[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
  return 1
end
return apart(cancel)
