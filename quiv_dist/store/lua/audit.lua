-- Look whether tasks keep their invariant (an active one has a due time or a live run) and
-- repair those that do not. Nothing here should ever find anything.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  then task ids
-- Reply   {task id, what was repaired, ...}
-- Events  none
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local repaired = {}
local function report(id, what)
  repaired[#repaired + 1] = id
  repaired[#repaired + 1] = what
end
for i = 2, #ARGV do
  local id = ARGV[i]
  local task = load_task(id)
  if not task then
    call('ZREM', K .. 'tasks', id)
    report(id, 'indexed without a record')
  else
    local live_key = K .. 'live:' .. id
    local live = call('HGETALL', live_key)
    for l = 1, #live, 2 do
      local status = call('HGET', K .. 'job:' .. live[l + 1], 'status')
      if status ~= 'scheduled' and status ~= 'running' then
        call('HDEL', live_key, live[l])
        task.live = task.live - 1
        report(id, 'live run without a live job')
      end
    end
    local score = call('ZSCORE', K .. 'due', 't:' .. id)
    if task.state == 'active' and task.due ~= '' and not score then
      call('ZADD', K .. 'due', task.due, 't:' .. id)
      report(id, 'due time missing from the due set')
    elseif task.state == 'active' and task.due ~= '' and score ~= task.due then
      call('ZADD', K .. 'due', task.due, 't:' .. id)
      report(id, 'in the due set at another time')
    elseif task.state == 'active' and task.due == '' and task.live == 0 then
      local nominal = int(math.max(NOW, tonumber(task.last) + 1))
      arm(id, task, nominal, nominal)
      wake_dispatcher(NOW)
      report(id, 'active with neither due time nor live run')
    elseif task.state == 'paused' and score then
      call('ZREM', K .. 'due', 't:' .. id)
      report(id, 'paused and in the due set')
    end
  end
end
return repaired
