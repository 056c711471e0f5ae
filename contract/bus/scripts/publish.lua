-- Append a frame to a reply stream, if it is there, though the server's memory is full: answers that were let in end.
-- KEYS: reply stream
-- ARGV: frame
-- Answers the id of its entry.
return redis.call('XADD', KEYS[1], 'NOMKSTREAM', '*', 'f', ARGV[1])
