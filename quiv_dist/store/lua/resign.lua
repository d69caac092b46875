-- Give the leader lease up, if it still is this holder's, and tell the standbys.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`
-- Reply   1 | 0
-- Events  leader_lost
if not leads(ARGV[1]) then
  return 0
end
call('DEL', K .. 'leader')
local node, epoch = string.match(ARGV[1], '^(.*)|(%d+)$')
emit('leader_lost', '"epoch":' .. epoch .. ',"node":' .. node_json(node))
call('PUBLISH', K .. 'leadership', 'free')
return 1
