-- Replace the shared keys, unless another publication was faster.
-- KEYS: shared keys (hash: `body`, `signature`)
-- ARGV: the signature that is to be replaced, empty if there is none; body, signature
-- Answers 1 if these are the shared keys now.
if (redis.call('HGET', KEYS[1], 'signature') or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'signature', ARGV[3])
return 1
