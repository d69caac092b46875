-- Pause a task: its tick and its waiting retry leave the due set, live jobs go on.
-- KEYS[1] meta
-- ARGV    1 task id  2 reason  3 actor  4 call id  5 '' or the revision this is about: the
--         scheduler disabling a task whose schedule cannot be computed
-- Reply   {OK | SAME | STALE | GONE, task JSON}. A call sent again gets OK again
-- Events  task_paused
local id = ARGV[1]
CALL_ID = ARGV[4]
local task = load_task(id)
if not task then
  return { 'GONE', '' }
end
if remembered('pause', id) then
  return { 'OK', task_json(task) }
end
if ARGV[5] ~= '' and ARGV[5] ~= task.revision then
  return { 'STALE', task_json(task) }
end
if task.state == 'paused' then
  return { 'SAME', task_json(task) }
end
task.state, task.reason = 'paused', ARGV[2]
task.rev = int(tonumber(task.rev) + 1)
disarm(id, task)
for _, job_id in ipairs(call('HVALS', K .. 'live:' .. id)) do
  call('ZREM', K .. 'due', 'r:' .. job_id)
end
call('HSET', K .. 'task:' .. id, 'state', 'paused', 'rev', task.rev, 'reason', ARGV[2],
  'actor', ARGV[3], 'paused_at', NOW_TEXT)
emit_task('task_paused', task)
remember('pause', id, 'OK')
return { 'OK', task_json(task) }
