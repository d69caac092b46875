-- Read job records.
-- KEYS[1] meta
-- ARGV    job ids
-- Reply   {job JSON or '', result bytes, progress JSON} an id
-- Events  none
local FINAL_FIELDS = { 'ended', 'dur', 'err', 'dead', 'result', 'progress' }
local reply = {}
for _, id in ipairs(ARGV) do
  local job = load_job(id)
  if job then
    local more = call('HMGET', K .. 'job:' .. id, unpack(FINAL_FIELDS))
    for i, field in ipairs(FINAL_FIELDS) do
      job[field] = more[i] or ''
    end
    reply[#reply + 1] = { job_json(id, job), job.result, job.progress }
  else
    reply[#reply + 1] = { '' }
  end
end
return reply
