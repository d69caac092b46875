-- What the janitor judges nodes by. Reads only.
-- KEYS[1] meta
-- ARGV    none
-- Reply   {server time ms, {node id, lease end ms, newest renewal ms ('' = none), jobs leased,
--         earliest job lease end ms ('' = none), node JSON}...}
-- Events  none
local nodes = call('ZRANGE', K .. 'nodes', 0, -1, 'WITHSCORES')
local reply = { NOW_TEXT }
for i = 1, #nodes, 2 do
  local node = nodes[i]
  local record = call('HMGET', K .. 'node:' .. node, 'renewed', 'json')
  local leases = K .. 'leases:' .. node
  local first = call('ZRANGE', leases, 0, 0, 'WITHSCORES')
  reply[#reply + 1] = { node, int(tonumber(nodes[i + 1])), record[1] or '',
    int(call('ZCARD', leases)), first[2] and int(tonumber(first[2])) or '', record[2] or '' }
end
return reply
