-- Steps of a script that does several jobs in a call, or counts for several keys: where one fails, as what is kept of a job
-- or of a key cannot be read, the others go on. Comes before all other parts.
local function why(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

-- Do a step. Answers what it answers, or {'failed', why}.
local function apart(step, ...)
  local is_done, answer = pcall(step, ...)
  if is_done then
    return answer
  end
  return {'failed', why(answer)}
end

-- Do a step that nobody is told of: the server's log has why it failed.
local function apart_and_logged(what, step, ...)
  local is_done, failure = pcall(step, ...)
  if not is_done then
    redis.log(redis.LOG_WARNING, 'ew: ' .. what .. ': ' .. why(failure))
  end
end
