-- Renew a node's lease and the leases of the jobs it runs.
-- KEYS[1] meta
-- ARGV    1 node id  2 node lease, ms  3 job lease, ms  then triples: job id, entry, delivery
-- Reply   {server time ms, incarnation, '1' if the node is known, {lost job ids}, {job id, stop
--         reason, ...}}
-- Events  none
local node, job_lease = ARGV[1], tonumber(ARGV[3])
local known = call('EXISTS', K .. 'node:' .. node)
local lost, stops = {}, {}
if known == 1 then
  call('ZADD', K .. 'nodes', int(NOW + tonumber(ARGV[2])), node)
  call('HSET', K .. 'node:' .. node, 'renewed', NOW_TEXT)
end
local lease_until = int(NOW + job_lease)
for i = 4, #ARGV, 3 do
  local id = ARGV[i]
  local job = call('HMGET', K .. 'job:' .. id, 'status', 'node', 'entry', 'deliv', 'stop')
  if job[1] == 'running' and job[2] == node and job[3] == ARGV[i + 1] and job[4] == ARGV[i + 2]
  then
    later(pending_zadd, K .. 'leases:' .. node, lease_until, id)
    if job[5] and job[5] ~= '' then
      stops[#stops + 1] = id
      stops[#stops + 1] = job[5]
    end
  else
    lost[#lost + 1] = id
  end
end
return { NOW_TEXT, INCARNATION, int(known), lost, stops }
