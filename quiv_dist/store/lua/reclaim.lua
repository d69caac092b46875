-- Take jobs back from a node: those whose lease is over, or all when its presence is gone and
-- nothing was renewed since it was looked at. A stored cancel is honoured first; only a delivery
-- ended here counts as a crash.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 node id  3 '' = only expired leases, or the renewal time as
--         read, ms  4 most jobs  5 history retention, ms
-- Reply   {ids of jobs taken back}
-- Events  job_lost and job_scheduled; or job_cancelled; or job_lost, job_failed and job_dead
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local node, retention = ARGV[2], tonumber(ARGV[5])
local leases = K .. 'leases:' .. node
local limit = NOW_TEXT
if ARGV[3] ~= '' then
  if (call('HGET', K .. 'node:' .. node, 'renewed') or '') ~= ARGV[3] then
    return {}
  end
  limit = '+inf'
end
local taken = call('ZRANGEBYSCORE', leases, '-inf', limit, 'LIMIT', 0, tonumber(ARGV[4]))
local back = {}
for _, id in ipairs(taken) do
  call('ZREM', leases, id)
  local job = load_job(id)
  if job and job.status == 'running' and job.node == node then
    back[#back + 1] = id
    if job.stop ~= '' then
      job.status, job.err = 'cancelled', 'stopped; its worker died before it could say so'
      settle_run(id, job, retention)
    else
      job.crashes = int(tonumber(job.crashes) + 1)
      emit_job('job_lost', id, job)
      if tonumber(job.crashes) >= tonumber(job.maxc) then
        job.status, job.dead = 'failed', '1'
        job.err = 'worker died ' .. job.crashes .. ' times while running this job (max_crashes ' ..
          job.maxc .. ')'
        settle_run(id, job, retention)
      else
        requeue(id, job)
        emit_job('job_scheduled', id, job)
      end
    end
  end
end
return back
