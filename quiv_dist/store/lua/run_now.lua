-- Run a task now. The pending tick of an interval or run-once task is brought forward and the
-- grid anchored there; a waiting retry is brought forward; a cron gets an extra run.
-- KEYS[1] meta
-- ARGV    1 task id  2 run id for an extra run, made once by the caller  3 its job id  4 call id
-- Reply   {OK | RUNNING | PAUSED | GONE}. A call sent again gets OK again, and runs nothing more
-- Events  job_scheduled for an extra run
local id = ARGV[1]
CALL_ID = ARGV[4]
if remembered('run_now', id) then
  return { 'OK' }
end
local task = load_task(id)
if not task then
  return { 'GONE' }
end
if task.state ~= 'active' then
  return { 'PAUSED' }
end
if call('EXISTS', K .. 'job:' .. ARGV[3]) == 1 then
  return { 'OK' }
end
if task.running > 0 then
  return { 'RUNNING' }
end
remember('run_now', id, 'OK')
local waiting = call('HVALS', K .. 'live:' .. id)
if #waiting > 0 then
  for _, job_id in ipairs(waiting) do
    call('ZADD', K .. 'due', 'XX', NOW_TEXT, 'r:' .. job_id)
  end
  wake_dispatcher(NOW)
  return { 'OK' }
end
if task.mode == 'cron' then
  start_run(id, task, ARGV[2], ARGV[3], 'now', '')
  return { 'OK' }
end
local nominal = int(math.max(NOW, tonumber(task.last) + 1))
call('HSET', K .. 'task:' .. id, 'rev', int(tonumber(task.rev) + 1), 'anchor', nominal)
arm(id, task, nominal, nominal)
wake_dispatcher(NOW)
return { 'OK' }
