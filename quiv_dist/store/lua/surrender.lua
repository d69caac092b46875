-- Give back jobs that are leased to a node which does not know of them: the reply of a claim was
-- lost. They never started, so no crash is counted.
-- KEYS[1] meta
-- ARGV    1 node id  then the ids of the jobs it knows of
-- Reply   {ids of jobs given back}
-- Events  job_scheduled
local node, known, back = ARGV[1], {}, {}
for i = 2, #ARGV do
  known[ARGV[i]] = true
end
local leases = K .. 'leases:' .. node
for _, id in ipairs(call('ZRANGE', leases, 0, -1)) do
  if not known[id] then
    local job = load_job(id)
    call('ZREM', leases, id)
    if job and job.status == 'running' and job.node == node then
      requeue(id, job)
      emit_job('job_scheduled', id, job)
      back[#back + 1] = id
    end
  end
end
return back
