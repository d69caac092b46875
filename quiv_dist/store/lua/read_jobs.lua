-- Read job records.
-- KEYS[1] meta
-- ARGV    job ids
-- Reply   {job JSON or '', result bytes, progress JSON} an id
-- Events  none
local reply = {}
for _, id in ipairs(ARGV) do
  local v = call('HMGET', K .. 'job:' .. id, 'status', 'final', 'result', 'progress')
  local job
  if v[2] then
    local f = cmsgpack.unpack(v[2])
    job = { status = v[1], task = f[1], name = f[2], run = f[3], kind = f[4], nominal = f[5],
      attempt = f[6], created = f[7], handler = f[8], queue = f[9], prio = f[10], node = f[11],
      deliv = f[12], crashes = f[13], started = f[14], ended = f[15], dur = f[16], err = f[17],
      dead = f[18] }
  elseif v[1] then
    job = load_job(id)
  end
  reply[#reply + 1] = job and { job_json(id, job), v[3] or '', v[4] or '' } or { '' }
end
return reply
