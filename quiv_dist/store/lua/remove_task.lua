-- Remove a task: queued runs are cancelled, running ones asked to stop.
-- KEYS[1] meta
-- ARGV    1 task id  2 history retention, ms  3 call id
-- Reply   {OK | GONE, task JSON before the removal}. A call sent again gets the same again
-- Events  task_removed; job_cancelled for each queued run
local id = ARGV[1]
CALL_ID = ARGV[3]
local removed = remembered('remove', id)
if removed then
  return { 'OK', removed }
end
local task = load_task(id)
if not task then
  return { 'GONE', '' }
end
local before = task_json(task)
local jobs = call('HVALS', K .. 'live:' .. id)
remove_task(id, task)
emit_task('task_removed', task)
for _, job_id in ipairs(jobs) do
  local job = load_job(job_id)
  if job and job.status == 'running' then
    call('HSET', K .. 'job:' .. job_id, 'stop', 'cancel')
    call('PUBLISH', K .. 'node:' .. job.node, 'stop ' .. job_id .. ' cancel')
  elseif job and job.status == 'scheduled' then
    withdraw(job_id, job)
    job.status, job.err = 'cancelled', 'task removed'
    settle_run(job_id, job, tonumber(ARGV[2]))
  end
end
remember('remove', id, before)
return { 'OK', before }
