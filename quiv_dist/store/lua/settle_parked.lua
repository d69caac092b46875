-- Jobs parked because no worker that read them serves their handler: wake those that do, fail
-- the jobs when none has for long enough, not counting the time since a worker last joined.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 handler grace, ms  3 history retention, ms  4 most jobs
-- Reply   {ids of jobs failed}
-- Events  job_failed, job_dead
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local grace, left = tonumber(ARGV[2]), tonumber(ARGV[4])
local joined = tonumber(call('HGET', KEYS[1], 'worker_joined') or 0)
local failed = {}
local places = call('ZRANGE', K .. 'parked', 0, -1, 'WITHSCORES')
for i = 1, #places, 2 do
  local place, since = places[i], math.max(tonumber(places[i + 1]), joined)
  local served = false
  for _, node in ipairs(call('SMEMBERS', K .. 'serves:' .. place)) do
    local lease_end = call('ZSCORE', K .. 'nodes', node)
    if lease_end and tonumber(lease_end) > NOW then
      served = true
      call('PUBLISH', K .. 'node:' .. node, 'claim')
    end
  end
  if served then
    call('ZADD', K .. 'parked', NOW_TEXT, place)
  elseif NOW - since >= grace then
    while left > 0 do
      local id = call('LPOP', K .. 'parked:' .. place)
      if not id then
        call('ZREM', K .. 'parked', place)
        break
      end
      local job = load_job(id)
      if job and job.status == 'scheduled' and job.parked == place then
        left = left - 1
        job.status, job.parked = 'failed', ''
        job.err = 'HandlerNotRegisteredError: no live worker of queue ' .. job.queue ..
          ' serves handler ' .. job.handler
        settle_run(id, job, tonumber(ARGV[3]))
        failed[#failed + 1] = id
      end
    end
  end
end
return failed
