-- Extend the leader lease, if it still is this holder's.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 lease, ms
-- Reply   {'1' | '0', holder, lease end ms, server time ms}
-- Events  none
local key = K .. 'leader'
if not leads(ARGV[1]) then
  local stored = call('HMGET', key, 'holder', 'until')
  return { '0', stored[1] or '', stored[2] or '0', NOW_TEXT }
end
local lease_end = int(NOW + tonumber(ARGV[2]))
call('HSET', key, 'until', lease_end)
return { '1', ARGV[1], lease_end, NOW_TEXT }
