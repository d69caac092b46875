-- Take a node out: what was delivered to it and never claimed goes back to the streams, its
-- record, leases and consumers go. A leader does it for a dead node, a node for itself.
-- KEYS[1] meta
-- ARGV    1 node id  2 '' for itself, or the leader's holder  3 history retention, ms  4 how long
--         after its lease a dead node keeps its pinned tasks, ms
-- Reply   OK | BUSY (jobs of it are still leased) | ALIVE (its lease runs) | FENCED
-- Events  node_left; task_removed and job_cancelled for what is pinned to it
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
local PRIORITIES = { 'high', 'normal', 'low' }
for _, queue in ipairs(call('SMEMBERS', K .. 'queues')) do
  for _, prio in ipairs(PRIORITIES) do
    local stream = K .. 'q:' .. queue .. ':' .. prio
    repeat
      local found = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000, node)
      local count = found and not found.err and #found or 0
      for i = 1, count do
        put_back(stream, found[i][1])
        call('XACK', stream, 'workers', found[i][1])
      end
    until count < 1000
    -- Only now: what is pending for a consumer is forgotten with it.
    redis.pcall('XGROUP', 'DELCONSUMER', stream, 'workers', node)
  end
end
for _, place in ipairs(call('SMEMBERS', K .. 'places:' .. node)) do
  call('SREM', K .. 'serves:' .. place, node)
end
local function cancel_job(job_id)
  local job = load_job(job_id)
  if job and job.status == 'scheduled' then
    withdraw(job_id, job)
    job.status, job.err = 'cancelled', 'the process that holds the handler is gone'
    settle_run(job_id, job, retention)
  end
end
local pinned = keep_pinned and {} or call('SMEMBERS', K .. 'pinned:' .. node)
for _, task_id in ipairs(pinned) do
  local task = load_task(task_id)
  if task and task.pinned == node then
    local jobs = call('HVALS', K .. 'live:' .. task_id)
    remove_task(task_id, task)
    emit_task('task_removed', task)
    for _, job_id in ipairs(jobs) do
      cancel_job(job_id)
    end
  end
end
call('DEL', K .. 'node:' .. node, K .. 'handlers:' .. node, K .. 'places:' .. node,
  K .. 'leases:' .. node)
if not keep_pinned then
  call('DEL', K .. 'pinned:' .. node)
  for _, prio in ipairs(PRIORITIES) do
    local stream = K .. 'q:@' .. node .. ':' .. prio
    for _, entry in ipairs(call('XRANGE', stream, '-', '+', 'COUNT', 1000)) do
      cancel_job(entry[2][2])
    end
    call('DEL', stream)
  end
  call('SREM', K .. 'queues', '@' .. node)
  call('ZREM', K .. 'nodes', node)
end
if existed then
  emit('node_left', '"node":' .. json_text_of_node)
end
return 'OK'
