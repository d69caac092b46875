-- Record the ends of deliveries, a batch at a time. Only the current (entry, node, delivery) of
-- a running job can end it. A stop that was stored decides how, whatever the handler did with it:
-- who was told that a job will be cancelled finds it cancelled.
-- KEYS[1] meta
-- ARGV    1 node id  2 history retention, ms  then 9 an item:
--         1 job id  2 entry  3 delivery  4 outcome: completed | failed | cancelled | handback
--         5 duration, ms (fractions allowed)  6 error message  7 id of the retry's job ('' = no
--         retry)  8 delay of the retry, ms  9 result bytes
-- Reply   {OK | RETRY | REFUSED} an item
-- Events  job_completed, job_failed, job_cancelled, job_retrying, job_dead, job_scheduled (hand-
--         back), task_ended
local node, retention = ARGV[1], tonumber(ARGV[2])
local reply = {}

-- A failed run with attempts left stays live under its run id; its next job waits in the due
-- set. Without its task (removed, or another incarnation) there is nothing left to retry for.
local function retry(id, job, retry_id, delay)
  local task
  if job.kind ~= 'submit' then
    task = load_task(job.task)
    if not task or task.inc ~= job.inc then
      return false
    end
  end
  end_entry(job)
  finalize(id, job, retention)
  emit_job('job_failed', id, job)
  local due = int(NOW + delay)
  local again = { task = job.task, name = job.name, run = job.run, kind = job.kind,
    nominal = job.nominal, inc = job.inc, attempt = int(tonumber(job.attempt) + 1),
    handler = job.handler, queue = job.queue, prio = job.prio, maxc = job.maxc,
    snap = job.snap, spec = job.spec, args = job.args, entry = '' }
  create_job(retry_id, again)
  if task then
    call('HSET', K .. 'live:' .. job.task, job.run, retry_id)
    call('HSET', K .. 'task:' .. job.task, 'attempt', job.attempt)
    if task.due == '' then
      call('HSET', K .. 'task:' .. job.task, 'next', due)
    end
  end
  if not task or task.state == 'active' then
    call('ZADD', K .. 'due', due, 'r:' .. retry_id)
    wake_dispatcher(NOW + delay)
  end
  emit_job('job_retrying', id, job)
  return true
end

for i = 3, #ARGV, 9 do
  local id, outcome = ARGV[i], ARGV[i + 3]
  local job = load_job(id)
  if not job or job.status ~= 'running' or job.node ~= node or job.entry ~= ARGV[i + 1] or
    job.deliv ~= ARGV[i + 2] then
    reply[#reply + 1] = 'REFUSED'
  else
    later(pending_zrem, K .. 'leases:' .. node, id)
    job.dur, job.err = ARGV[i + 4], ARGV[i + 5]
    if job.stop ~= '' then
      outcome = 'cancelled'
    end
    if outcome == 'handback' then
      requeue(id, job)
      emit_job('job_scheduled', id, job)
      reply[#reply + 1] = 'OK'
    else
      job.status = outcome
      if outcome == 'failed' and ARGV[i + 6] ~= '' and
        retry(id, job, ARGV[i + 6], tonumber(ARGV[i + 7])) then
        reply[#reply + 1] = 'RETRY'
      else
        settle_run(id, job, retention, ARGV[i + 8])
        reply[#reply + 1] = 'OK'
      end
    end
  end
end
return reply
