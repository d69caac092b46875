-- Resume a task. Its next tick is at now + delay with the grid anchored there, or at the time
-- given (a cron). A retry that waits is due then too. An active task is only moved.
-- KEYS[1] meta
-- ARGV    1 task id  2 delay, ms  3 nominal time, ms ('' = now + delay)  4 due time, ms
--         5 call id  6 '' or the revision that the given time was computed from
-- Reply   {OK | RUNNING | STALE | GONE, task JSON, server time ms}; STALE: the given time
--         is not after the last one, or of another revision. A call sent again gets OK again
-- Events  task_resumed
local id = ARGV[1]
CALL_ID = ARGV[5]
local task = load_task(id)
if not task then
  return { 'GONE', '', NOW_TEXT }
end
if remembered('resume', id) then
  return { 'OK', task_json(task), NOW_TEXT }
end
if (ARGV[6] or '') ~= '' and ARGV[6] ~= task.revision then
  return { 'STALE', task_json(task), NOW_TEXT }
end
local waiting, running = {}, false
for _, job_id in ipairs(call('HVALS', K .. 'live:' .. id)) do
  local job = call('HMGET', K .. 'job:' .. job_id, 'status', 'entry', 'parked')
  if job[1] == 'scheduled' and job[2] == '' and (job[3] or '') == '' then
    waiting[#waiting + 1] = job_id
  else
    running = true
  end
end
if running then
  return { 'RUNNING', task_json(task), NOW_TEXT }
end
local at = int(NOW + tonumber(ARGV[2]))
local nominal, due = ARGV[3], ARGV[4]
if nominal == '' then
  nominal = int(math.max(tonumber(at), tonumber(task.last) + 1))
  due = nominal
elseif tonumber(nominal) <= tonumber(task.last) then
  return { 'STALE', task_json(task), NOW_TEXT }
end
task.state, task.reason = 'active', ''
task.rev = int(tonumber(task.rev) + 1)
call('HSET', K .. 'task:' .. id, 'state', 'active', 'rev', task.rev, 'reason', '', 'actor', '',
  'anchor', nominal)
-- What waits for its retry runs instead of the tick; settling it arms an `after` task again.
if #waiting > 0 and (task.mode == 'after' or task.mode == 'once') then
  task.next = at
  call('HSET', K .. 'task:' .. id, 'next', at)
else
  if #waiting > 0 and task.mode == 'fixed' then
    nominal = int(tonumber(nominal) + tonumber(task.every))
    due = int(tonumber(nominal) + jitter(id, nominal, tonumber(task.jitter)))
  end
  arm(id, task, nominal, due)
end
for _, job_id in ipairs(waiting) do
  call('ZADD', K .. 'due', at, 'r:' .. job_id)
end
wake_dispatcher(math.min(tonumber(due), tonumber(at)))
task = load_task(id)
emit_task('task_resumed', task)
remember('resume', id, 'OK')
return { 'OK', task_json(task), NOW_TEXT }
