-- Put back entries that a worker was handed and never claimed: it died in between.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 queue  3 priority  4 least idle time, ms of the server's clock
--         5 most entries
-- Reply   {ids of jobs put back}
-- Events  none: the job never started
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local stream = K .. 'q:' .. ARGV[2] .. ':' .. ARGV[3]
local found = redis.pcall('XPENDING', stream, 'workers', 'IDLE', ARGV[4], '-', '+', ARGV[5])
local back = {}
if not found or found.err then
  return back
end
for _, pending in ipairs(found) do
  back[#back + 1] = put_back(stream, pending[1])
end
return back
