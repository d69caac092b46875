-- Turn due ticks and waiting retries into jobs: the exactly-once step. Each tick is one line of
-- compare-and-set on revision, due time and high-water mark, so that it is unique even without
-- the fence.
-- KEYS[1] meta
-- ARGV    1 holder `node|epoch`  2 history retention, ms  then 13 an item:
--         1 member of the due set: `t:<task id>`, or `r:<job id>` of a waiting retry
--         2 revision as read  3 due time as read  4 nominal time to enqueue ('' = none)
--         5 run id  6 job id  7 newest nominal time this covers  8 next nominal time ('' = none)
--         9 next due time ('' = none)  10 passed outcome ('' = none: coalesced | missed)
--         11 first passed  12 last passed  13 passed count
--         All times in ms.
-- Reply   FENCED, or {OK | SKIPPED | PASSED | STALE | EARLY | DUP | GONE} an item
-- Events  job_scheduled, tick_skipped, tick_missed, task_ended
if not leads(ARGV[1]) then
  return redis.error_reply('FENCED the leader lease holds another node or epoch')
end
local retention = tonumber(ARGV[2])

local function fire_retry(member, due)
  local id = string.sub(member, 3)
  local score = call('ZSCORE', K .. 'due', member)
  if not score then
    return 'GONE'
  elseif int(tonumber(score)) ~= due then
    return 'STALE'
  elseif tonumber(due) > NOW then
    return 'EARLY'
  end
  local job = load_job(id)
  call('ZREM', K .. 'due', member)
  if not job or job.status ~= 'scheduled' then
    return 'GONE'
  end
  job.entry = call('XADD', stream_of(job), '*', 'j', id)
  call('HSET', K .. 'job:' .. id, 'entry', job.entry)
  emit_job('job_scheduled', id, job)
  return 'OK'
end

local function tick_json(task_id, outcome, reason, first, last, count)
  return ',"tick":{"task_id":' .. json(task_id) .. ',"outcome":"' .. outcome .. '","reason":' ..
    json(reason) .. ',"first_at_ms":' .. first .. ',"last_at_ms":' .. last .. ',"count":' ..
    count .. '}'
end

local function fire_tick(i)
  local id, rev, due, nominal = string.sub(ARGV[i], 3), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local newest, next_nominal = ARGV[i + 6], ARGV[i + 7]
  local next_due = next_nominal ~= '' and ARGV[i + 8] or ''
  local task = load_task(id)
  if not task then
    call('ZREM', K .. 'due', 't:' .. id)
    return 'GONE'
  elseif task.revision ~= rev or task.due ~= due then
    return 'STALE'
  elseif tonumber(due) > NOW then
    return 'EARLY'
  elseif tonumber(newest) <= tonumber(task.last) then
    return 'DUP'
  end
  local passed, outcome = ARGV[i + 9], 'PASSED'
  if passed ~= '' then
    local first, last, count = ARGV[i + 10], ARGV[i + 11], ARGV[i + 12]
    journal(id, task, passed, first, last, count, '')
    if passed == 'missed' then
      emit('tick_missed', '"task":' .. task_json(task) ..
        tick_json(id, 'missed', 'beyond the misfire grace', first, last, count))
    end
  end
  -- As arm and disarm do, with the fields of one tick in one write and the due set in one a batch.
  task.last, task.due = newest, next_due
  if next_nominal == '' then
    call('ZREM', K .. 'due', 't:' .. id)
  else
    task.nominal, task.next = next_nominal, next_due
    later(pending_zadd, K .. 'due', next_due, 't:' .. id)
  end
  if nominal ~= '' then
    if task.live > 0 then
      outcome = 'SKIPPED'
      local live = call('HVALS', K .. 'live:' .. id)[1]
      local widened = journal(id, task, 'skipped', nominal, nominal, '1', 'live ' .. live)
      if not widened then
        emit('tick_skipped', '"task":' .. task_json(task) ..
          tick_json(id, 'skipped', 'job ' .. live .. ' is live', nominal, nominal, '1'))
      end
    else
      outcome = 'OK'
      journal(id, task, 'enqueued', nominal, nominal, '1', '')
      start_run(id, task, ARGV[i + 4], ARGV[i + 5], 'tick', nominal)
    end
  end
  call('HSET', K .. 'task:' .. id, 'last', newest, 'journal', task.journal, 'nominal',
    task.nominal, 'due', next_due, 'next', task.next)
  conclude(id, task, retention, nil)
  return outcome
end

local reply = {}
for i = 3, #ARGV, 13 do
  if string.sub(ARGV[i], 1, 2) == 'r:' then
    reply[#reply + 1] = fire_retry(ARGV[i], ARGV[i + 2])
  else
    reply[#reply + 1] = fire_tick(i)
  end
end
return reply
