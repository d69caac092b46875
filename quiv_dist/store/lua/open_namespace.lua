-- Create the namespace's meta record, or read the one there is. Runs without the prelude, which
-- needs that record.
-- KEYS[1] meta
-- ARGV    1 schema stamp  2 new incarnation (random)  3 partition number  4 partition count
--         5 log bound, bytes  6 '' or the virtual clock's first time, ms
-- Reply   {schema, incarnation, partition count, '1' if virtual, '1' if created here}
-- Events  none
local stored = redis.call('HMGET', KEYS[1], 'schema', 'incarnation', 'partitions', 'clock_ms')
local created = '0'
if not stored[1] then
  created = '1'
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'incarnation', ARGV[2], 'partition', ARGV[3],
    'partitions', ARGV[4], 'log_bytes', ARGV[5])
  if ARGV[6] ~= '' then
    redis.call('HSET', KEYS[1], 'clock_ms', ARGV[6])
  end
  stored = redis.call('HMGET', KEYS[1], 'schema', 'incarnation', 'partitions', 'clock_ms')
end
return { stored[1], stored[2], stored[3], stored[4] and '1' or '0', created }
