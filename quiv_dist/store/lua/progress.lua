-- Publish a job's progress and keep the newest on it. Not logged.
-- KEYS[1] meta
-- ARGV    1 node id  2 job id  3 delivery  4 progress JSON: {"args": [...], "kwargs": {...}}
-- Reply   1, or 0 when the delivery is not current
-- Events  job_progress (published only)
local id = ARGV[2]
local job = load_job(id)
if not job or job.status ~= 'running' or job.node ~= ARGV[1] or job.deliv ~= ARGV[3] then
  return 0
end
call('HSET', K .. 'job:' .. id, 'progress', ARGV[4])
call('PUBLISH', K .. 'event:job_progress', '{"id":"","prev":"","type":"job_progress","at_ms":' ..
  NOW_TEXT .. ',"partition":' .. PARTITION .. ',"log":"' .. INCARNATION .. '","call":"","task":' ..
  job.snap .. ',"job":' .. job_json(id, job) .. ',"progress":' .. ARGV[4] .. '}')
return 1
