-- Announce a node, or announce it again after the server lost it.
-- KEYS[1] meta
-- ARGV    1 node id  2 node lease, ms  3 node JSON  4 '1' if it is a worker  5 number of queues
--         then the queues, then the handlers it serves
-- Reply   {incarnation, server time ms}
-- Events  node_joined
local node, queues = ARGV[1], tonumber(ARGV[5])
local new = call('EXISTS', K .. 'node:' .. node) == 0
call('HSET', K .. 'node:' .. node, 'json', ARGV[3], 'renewed', NOW_TEXT)
call('ZADD', K .. 'nodes', int(NOW + tonumber(ARGV[2])), node)
for h = 6 + queues, #ARGV do
  call('SADD', K .. 'handlers:' .. node, ARGV[h])
  for q = 6, 5 + queues do
    call('SADD', K .. 'serves:' .. ARGV[q] .. '|' .. ARGV[h], node)
    call('SADD', K .. 'places:' .. node, ARGV[q] .. '|' .. ARGV[h])
  end
end
if ARGV[4] == '1' then
  call('HSET', KEYS[1], 'worker_joined', NOW_TEXT)
  for q = 6, 5 + queues do
    call('SADD', K .. 'queues', ARGV[q])
  end
end
if new then
  emit('node_joined', '"node":' .. node_json(node))
end
return { INCARNATION, NOW_TEXT }
