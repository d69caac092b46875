-- Read task records.
-- KEYS[1] meta
-- ARGV    task ids
-- Reply   {task JSON or '', args, revision, due ms, nominal ms, last ms, anchor ms, trigger,
--         fingerprint, spec} an id
-- Events  none
local reply = {}
for _, id in ipairs(ARGV) do
  local task = load_task(id)
  if task then
    local more = call('HMGET', K .. 'task:' .. id, 'anchor', 'trigger', 'fingerprint')
    reply[#reply + 1] = { task_json(task), task.args, task.revision, task.due, task.nominal,
      task.last, more[1] or '', more[2] or '', more[3] or '', task.spec }
  else
    reply[#reply + 1] = { '' }
  end
end
return reply
