-- KEYS: leases, ready, beats
-- ARGV: forget after ms
-- Answers the heartbeats.
return living(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
