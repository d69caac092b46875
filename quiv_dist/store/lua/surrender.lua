-- Give back what a node was given and does not know of, because a reply was lost: jobs of a claim
-- and entries of a blocking read. Those jobs never started, so no crash is counted.
-- KEYS[1] meta
-- ARGV    1 node id  2 number of streams  then queue, priority of each  then the ids of the jobs
--         it knows of
-- Reply   {ids of jobs given back}
-- Events  job_scheduled for jobs of a claim
local node, streams, known, back = ARGV[1], tonumber(ARGV[2]), {}, {}
for i = 3 + streams * 2, #ARGV do
  known[ARGV[i]] = true
end
for s = 0, streams - 1 do
  local stream = K .. 'q:' .. ARGV[3 + s * 2] .. ':' .. ARGV[4 + s * 2]
  local found = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000, node)
  for _, pending in ipairs(found and not found.err and found or {}) do
    back[#back + 1] = put_back(stream, pending[1])
  end
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
