-- Change fields of a task, and optionally its next tick. The caller computed the change from a
-- read; a fire or another write since then refuses it, so that no tick is armed twice.
-- KEYS[1] meta
-- ARGV    1 task id  2 revision as read  3 due time as read ('' = not armed)  4 nominal time, ms
--         ('' = leave the next tick alone, 'now' = the server's time)  5 due time, ms  6 anchor,
--         ms ('' = leave)  7 call id  then pairs of fields and values as in put_task, and
--         fingerprint
-- Reply   {OK | STALE | GONE, task JSON, server time ms}. A call sent again gets OK again
-- Events  task_updated
local id = ARGV[1]
local key = K .. 'task:' .. id
CALL_ID = ARGV[7]
local task = load_task(id)
if not task then
  return { 'GONE', '', NOW_TEXT }
end
if remembered('update', id) then
  return { 'OK', task_json(task), NOW_TEXT }
end
local nominal, due = ARGV[4], ARGV[5]
if nominal == 'now' then
  nominal = int(math.max(NOW, tonumber(task.last) + 1))
  due = nominal
end
if ARGV[2] ~= task.revision or ARGV[3] ~= task.due or
  (nominal ~= '' and tonumber(nominal) <= tonumber(task.last)) then
  return { 'STALE', task_json(task), NOW_TEXT }
end
local pinned = task.pinned
local definition, written = definition_of(8)
for field, value in pairs(definition) do
  task[field] = value
end
move_pinned(id, pinned, task.pinned)
task.rev = int(tonumber(task.rev) + 1)
call('HSET', key, 'rev', task.rev, unpack(written))
if ARGV[6] ~= '' then
  call('HSET', key, 'anchor', ARGV[6] == 'now' and NOW_TEXT or ARGV[6])
end
if nominal ~= '' then
  if task.state == 'active' then
    arm(id, task, nominal, due)
    wake_dispatcher(tonumber(due))
  else
    task.next = due
    call('HSET', key, 'nominal', nominal, 'next', due)
  end
end
emit_task('task_updated', task)
remember('update', id, 'OK')
return { 'OK', task_json(task), NOW_TEXT }
