-- Take the leader lease: when it is free or over, or, with a holder named, by compare-and-set
-- from exactly that holder, at most once a lease period. The epoch never repeats, not even when
-- the server was rolled back: it is at least the server's time.
-- KEYS[1] meta
-- ARGV    1 node id  2 lease, ms  3 '' or the holder whose presence is gone
-- Reply   {'1' elected | '0', holder, lease end ms, server time ms}
-- Events  leader_lost for the one replaced, leader_elected
local node, lease = ARGV[1], tonumber(ARGV[2])
local key = K .. 'leader'
local stored = call('HMGET', key, 'holder', 'until', 'taken_over')
local holder, lease_end = stored[1] or '', tonumber(stored[2] or 0)
-- A node that asks does not know that it leads: the reply was lost. It gets a new term, which
-- fences whatever it had under way in the old one.
local own = string.sub(holder, 1, #node + 1) == node .. '|'
local deposed = holder ~= '' and lease_end > NOW and not own
if deposed and (ARGV[3] ~= holder or NOW - tonumber(stored[3] or 0) < lease) then
  return { '0', holder, int(lease_end), NOW_TEXT }
end
local epoch = int(math.max(tonumber(call('GET', K .. 'epoch') or 0) + 1, NOW))
call('SET', K .. 'epoch', epoch)
local mine = node .. '|' .. epoch
call('HSET', key, 'holder', mine, 'until', int(NOW + lease), 'since', NOW_TEXT)
if deposed then
  call('HSET', key, 'taken_over', NOW_TEXT)
end
if holder ~= '' then
  local old_node, old_epoch = string.match(holder, '^(.*)|(%d+)$')
  emit('leader_lost', '"epoch":' .. old_epoch .. ',"node":' .. node_json(old_node))
end
emit('leader_elected', '"epoch":' .. epoch .. ',"node":' .. node_json(node))
return { '1', mine, int(NOW + lease), NOW_TEXT }
