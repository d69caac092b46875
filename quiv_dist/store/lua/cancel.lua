-- Cancel a job: at once if it is not running, else by asking its worker.
-- KEYS[1] meta
-- ARGV    1 job id  2 history retention, ms  3 call id
-- Reply   1 stored, 0 unknown or finished. A call sent again gets 1 again
-- Events  job_cancelled for a job that was not running
local id = ARGV[1]
CALL_ID = ARGV[3]
if remembered('cancel', id) then
  return 1
end
local job = load_job(id)
if not job or (job.status ~= 'scheduled' and job.status ~= 'running') then
  return 0
end
remember('cancel', id, '1')
if job.status == 'running' then
  call('HSET', K .. 'job:' .. id, 'stop', 'cancel')
  call('PUBLISH', K .. 'node:' .. job.node, 'stop ' .. id .. ' cancel')
  return 1
end
withdraw(id, job)
job.status = 'cancelled'
settle_run(id, job, tonumber(ARGV[2]))
return 1
