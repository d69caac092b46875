-- Take a node out: what was delivered to it and never claimed goes back to the streams, its
-- record, leases and consumers go. A leader does it for a dead node, a node for itself.
-- KEYS[1] meta
-- ARGV    1 node id  2 '' for itself, or the leader's holder  3 history retention, ms  4 how long
--         after its lease a dead node keeps its pinned tasks, ms
-- Reply   OK | BUSY (jobs of it are still leased) | ALIVE (its lease runs) | FENCED
-- Events  node_left
local node, retention = ARGV[1], tonumber(ARGV[3])
local keep_pinned = false
if ARGV[2] ~= '' then
  if not leads(ARGV[2]) then
    return redis.error_reply('FENCED the leader lease holds another node or epoch')
  end
  local lease_end = call('ZSCORE', K .. 'nodes', node)
  if lease_end and tonumber(lease_end) > NOW then
    return 'ALIVE'
  end
  keep_pinned = lease_end and NOW < tonumber(lease_end) + tonumber(ARGV[4]) and
    call('EXISTS', K .. 'pinned:' .. node) == 1
end
if call('ZCARD', K .. 'leases:' .. node) > 0 then
  return 'BUSY'
end
local json_text_of_node = node_json(node)
local existed = call('EXISTS', K .. 'node:' .. node) == 1
for _, queue in ipairs(call('SMEMBERS', K .. 'queues')) do
  for _, prio in ipairs({ 'high', 'normal', 'low' }) do
    local stream = K .. 'q:' .. queue .. ':' .. prio
    local found = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000, node)
    if found and not found.err then
      for _, pending in ipairs(found) do
        local entry = call('XRANGE', stream, pending[1], pending[1])[1]
        local id = entry and entry[2][1] == 'j' and entry[2][2]
        local job = id and load_job(id)
        if job and job.status == 'scheduled' and job.entry == pending[1] then
          requeue(id, job)
        else
          later(pending_ack, stream, pending[1])
        end
      end
      -- The consumer goes only after its pending entries were acknowledged, else they are lost
      -- with it; the next sweep takes one that had more than fit into this call.
      if #found == 0 then
        redis.pcall('XGROUP', 'DELCONSUMER', stream, 'workers', node)
      end
    end
  end
end
for _, place in ipairs(call('SMEMBERS', K .. 'places:' .. node)) do
  call('SREM', K .. 'serves:' .. place, node)
end
local pinned = keep_pinned and {} or call('SMEMBERS', K .. 'pinned:' .. node)
for _, task_id in ipairs(pinned) do
  local task = load_task(task_id)
  if task then
    remove_task(task_id, task)
    emit_task('task_removed', task)
    for _, job_id in ipairs(call('HVALS', K .. 'live:' .. task_id)) do
      local job = load_job(job_id)
      if job then
        withdraw(job_id, job)
        job.status, job.err = 'cancelled', 'the process that holds the handler is gone'
        settle_run(job_id, job, retention)
      end
    end
  end
end
call('DEL', K .. 'node:' .. node, K .. 'handlers:' .. node, K .. 'places:' .. node,
  K .. 'leases:' .. node)
if not keep_pinned then
  call('DEL', K .. 'pinned:' .. node, K .. 'q:@' .. node .. ':normal')
  call('SREM', K .. 'queues', '@' .. node)
  call('ZREM', K .. 'nodes', node)
end
if existed then
  emit('node_left', '"node":' .. json_text_of_node)
end
return 'OK'
