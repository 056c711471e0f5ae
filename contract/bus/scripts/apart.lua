-- Steps of a script that does several jobs in a call, or counts for several keys: where one fails, as what is kept of a job
-- or of a key cannot be read, the others go on. That the server has become a replica is no failure of a step: the script
-- fails then, so that its caller leaves this server. Comes before all other parts.
local function why(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

local function fail_if_replica(failure)
  if why(failure):find('READONLY', 1, true) == 1 then
    error({err = why(failure)})
  end
end

-- Do a step. Answers what it answers, or {'failed', why}.
local function apart(step, ...)
  local is_done, answer = pcall(step, ...)
  if is_done then
    return answer
  end
  fail_if_replica(answer)
  return {'failed', why(answer)}
end

-- Do a step that nobody is told of: the server's log has why it failed.
local function apart_and_logged(what, step, ...)
  local is_done, failure = pcall(step, ...)
  if not is_done then
    fail_if_replica(failure)
    redis.log(redis.LOG_WARNING, 'ew: ' .. what .. ': ' .. why(failure))
  end
end
