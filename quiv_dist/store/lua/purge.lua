-- Forget what is past its retention: finished jobs and old log entries.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 log retention, ms  3 most jobs
-- Reply   number of jobs forgotten
-- Events  none
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local ids = call('ZRANGEBYSCORE', K .. 'ended', '-inf', NOW_TEXT, 'LIMIT', 0, tonumber(ARGV[3]))
for _, id in ipairs(ids) do
  call('DEL', K .. 'job:' .. id)
  later(pending_zrem, K .. 'jobs', id)
  later(pending_zrem, K .. 'ended', id)
end
call('XTRIM', K .. 'log', 'MINID', '~', int(math.max(NOW - tonumber(ARGV[2]), 0)))
return #ids
