-- Create a task, or replace the definition of one: an idempotent upsert. It never creates a past
-- tick, never unpauses, and keeps the due time of a task whose trigger did not change.
-- KEYS[1] meta
-- ARGV    1 task id  2 if_exists: replace | keep | error  3 revision as read ('' = none)
--         4 due time as read ('' = none or not armed)  5 new incarnation  6 nominal time, ms
--         7 due time, ms  8 grid anchor, ms ('now' = the server's time)  9 fingerprint of the whole
--         definition  10 call id  then pairs of definition fields and values: trigger, mode,
--         every (ms), jitter (ms), snap, name, handler, queue, prio, spec, args, maxc, pinned
--         Nominal and due may be 'now': the server's time.
-- Reply   {CREATED | REPLACED | SAME | KEPT | EXISTS | STALE, task JSON, server time ms}. A call
--         sent again gets the word it got first
-- Events  task_added, task_updated
local id = ARGV[1]
local key = K .. 'task:' .. id
CALL_ID = ARGV[10]
local definition, written = definition_of(11)

local task = load_task(id)
local done = task and remembered('put', id)
if done then
  return { done, task_json(task), NOW_TEXT }
end
local earliest = task and math.max(NOW, tonumber(task.last) + 1) or NOW
local nominal = ARGV[6] == 'now' and int(earliest) or ARGV[6]
local due = ARGV[7] == 'now' and int(earliest) or ARGV[7]
local anchor = ARGV[8] == 'now' and NOW_TEXT or ARGV[8]

if task then
  if ARGV[2] ~= 'replace' then
    return { ARGV[2] == 'keep' and 'KEPT' or 'EXISTS', task_json(task), NOW_TEXT }
  end
  if ARGV[3] ~= task.revision or ARGV[4] ~= task.due then
    return { 'STALE', task_json(task), NOW_TEXT }
  end
  local stored = call('HMGET', key, 'fingerprint', 'trigger')
  if stored[1] == ARGV[9] then
    return { 'SAME', task_json(task), NOW_TEXT }
  end
  local moved = stored[2] ~= definition.trigger
  if moved and tonumber(nominal) <= tonumber(task.last) then
    return { 'STALE', task_json(task), NOW_TEXT }
  end
  move_pinned(id, task.pinned, definition.pinned)
  for field, value in pairs(definition) do
    task[field] = value
  end
  task.rev = int(tonumber(task.rev) + 1)
  call('HSET', key, 'rev', task.rev, 'fingerprint', ARGV[9], unpack(written))
  if moved then
    call('HSET', key, 'anchor', anchor)
    if task.state ~= 'active' then
      task.next = due
      call('HSET', key, 'nominal', nominal, 'next', due)
    elseif task.mode == 'after' and task.live > 0 then
      -- The live run arms a task that counts from the end of its runs.
      disarm(id, task)
    else
      arm(id, task, nominal, due)
      wake_dispatcher(tonumber(due))
    end
  end
  emit_task('task_updated', task)
  remember('put', id, 'REPLACED')
  return { 'REPLACED', task_json(task), NOW_TEXT }
end

if ARGV[3] ~= '' then
  return { 'STALE', '', NOW_TEXT }
end
task = { rev = '1', inc = ARGV[5], state = 'active', last = '0', attempt = '0', reason = '',
  journal = '', live = 0, running = 0 }
for field, value in pairs(definition) do
  task[field] = value
end
call('HSET', key, 'rev', '1', 'inc', task.inc, 'state', 'active', 'last', '0', 'attempt', '0',
  'anchor', anchor, 'fingerprint', ARGV[9], unpack(written))
call('ZADD', K .. 'tasks', NOW_TEXT, id)
call('DEL', K .. 'spent:' .. id)
arm(id, task, nominal, due)
move_pinned(id, '', task.pinned)
wake_dispatcher(tonumber(due))
emit_task('task_added', task)
remember('put', id, 'CREATED')
return { 'CREATED', task_json(task), NOW_TEXT }
