-- Shared by every script of this folder. `scripts.py` joins this file and an operation like so:
--   <prelude>  local function main() <operation> end  local reply = main()  flush()  return reply
--
-- KEYS[1] is always `quiv:{namespace/partition}:meta`; all other keys are computed from it and
-- share its hash tag. Times and durations are integer milliseconds, formatted with `%d`: a bare
-- number of this size prints as 1.79e+15. Scripts do not roll back, so an operation reads and
-- validates first and then only writes; nothing here may raise after the first write.
--
-- Writes to indexes and acknowledgements are gathered in `pending_*` and made once by flush().

local call = redis.call
local K = string.sub(KEYS[1], 1, -5)

local meta = call('HMGET', KEYS[1], 'incarnation', 'clock_ms', 'log_bytes', 'partition')
local INCARNATION, LOG_BYTES, PARTITION = meta[1], tonumber(meta[3] or 0), meta[4]
if not INCARNATION then
  return redis.error_reply('NONAMESPACE the namespace has no meta record')
end

local function int(number)
  return string.format('%d', number)
end

-- The only reader of time: the server's clock, or the clock a virtual namespace was set to.
local NOW
if meta[2] then
  NOW = tonumber(meta[2])
else
  local t = call('TIME')
  NOW = t[1] * 1000 + math.floor(t[2] / 1000)
end
local NOW_TEXT = int(NOW)

local pending_zadd, pending_zrem, pending_ack = {}, {}, {}

local function later(pending, key, ...)
  local list = pending[key]
  if not list then
    list = {}
    pending[key] = list
  end
  for _, value in ipairs({ ... }) do
    list[#list + 1] = value
  end
end

-- `unpack` fails near 8,000 values, so long lists go in chunks (an even number: score, member).
local function in_chunks(list, act)
  for first = 1, #list, 1000 do
    act(unpack(list, first, math.min(first + 999, #list)))
  end
end

local json_text = {}
local function json(text)
  if not text or text == '' then
    return 'null'
  end
  local encoded = json_text[text]
  if not encoded then
    encoded = cjson.encode(text)
    json_text[text] = encoded
  end
  return encoded
end

local function number_or_null(text)
  return (text and text ~= '') and text or 'null'
end

-- Events --------------------------------------------------------------------------------------

local CALL_ID = ''
local log_state

-- Append an event to the log and publish it. `body` is the JSON members after the envelope. The
-- envelope carries the id of the previous event of its kind, so that a reader sees a gap. The
-- log is bounded by bytes: its length limit follows the running mean size of an event.
local function emit(kind, body)
  if not log_state then
    log_state = { ids = {}, mean = 600 }
    local stored = call('HGETALL', K .. 'logstate')
    for i = 1, #stored, 2 do
      log_state.ids[stored[i]] = stored[i + 1]
    end
    log_state.mean = tonumber(log_state.ids.mean_bytes or 600)
    log_state.ids = setmetatable({}, { __index = log_state.ids })
  end
  local prev = log_state.ids[kind] or ''
  local rest = '"type":"' .. kind .. '","at_ms":' .. NOW_TEXT .. ',"partition":' .. PARTITION ..
    ',"log":"' .. INCARNATION .. '","call":"' .. CALL_ID .. '",' .. body .. '}'
  log_state.mean = log_state.mean * 0.99 + (#rest + 64) * 0.01
  local limit = int(math.max(100, math.floor(LOG_BYTES / log_state.mean)))
  local id = call('XADD', K .. 'log', 'MAXLEN', '~', limit, '*', 'k', kind, 'p', prev, 'b', rest)
  log_state.ids[kind] = id
  call('PUBLISH', K .. 'event:' .. kind,
    '{"id":"' .. id .. '","prev":"' .. prev .. '",' .. rest)
  return id
end

local function task_json(task)
  local status = task.state
  if status == 'active' and (tonumber(task.running) or 0) > 0 then
    status = 'running'
  end
  return '{' .. task.snap .. ',"status":"' .. status .. '","next_run_at_ms":' .. task.next ..
    ',"retry_attempt":' .. (task.attempt or '0') .. ',"revision":' .. task.rev ..
    ',"incarnation":"' .. task.inc .. '","pause_reason":' .. json(task.reason) .. '}'
end

local function job_json(id, job)
  local duration = 'null'
  if job.dur and job.dur ~= '' then
    duration = string.format('%.6f', tonumber(job.dur) / 1000)
  end
  return '{"id":"' .. id .. '","run_id":"' .. job.run .. '","run_kind":"' .. job.kind ..
    '","task_id":' .. json(job.task) .. ',"task_name":' .. json(job.name) .. ',"status":"' ..
    job.status .. '","attempt":' .. job.attempt .. ',"delivery":' .. job.deliv ..
    ',"crashes":' .. job.crashes .. ',"node_id":' .. json(job.node) .. ',"handler":' ..
    json(job.handler) .. ',"queue":' .. json(job.queue) .. ',"priority":"' .. job.prio ..
    '","created_at_ms":' .. job.created .. ',"started_at_ms":' .. job.started ..
    ',"ended_at_ms":' .. number_or_null(job.ended) .. ',"duration_seconds":' .. duration ..
    ',"error_message":' .. json(job.err) .. ',"scheduled_for_ms":' ..
    number_or_null(job.nominal) .. ',"dead":' .. (job.dead == '1' and 'true' or 'false') .. '}'
end

local function emit_job(kind, id, job)
  return emit(kind, '"task":' .. job.snap .. ',"job":' .. job_json(id, job))
end

local function emit_task(kind, task)
  return emit(kind, '"task":' .. task_json(task))
end

-- Records -------------------------------------------------------------------------------------

local TASK_FIELDS = { 'rev', 'inc', 'state', 'due', 'next', 'nominal', 'last', 'mode', 'every',
  'jitter', 'attempt', 'reason', 'snap', 'name', 'handler', 'queue', 'prio', 'spec', 'args',
  'maxc', 'journal', 'pinned' }
local JOB_FIELDS = { 'status', 'task', 'name', 'run', 'kind', 'nominal', 'inc', 'attempt',
  'created', 'started', 'handler', 'queue', 'prio', 'entry', 'node', 'deliv', 'crashes', 'maxc',
  'stop', 'parked', 'snap' }

local function load(key, fields)
  local values = call('HMGET', key, unpack(fields))
  if not values[1] then
    return nil
  end
  local record = {}
  for i, field in ipairs(fields) do
    record[field] = values[i] or ''
  end
  return record
end

-- A task record with `running`: how many of its runs are live and not waiting for a retry.
local function load_task(id)
  local task = load(K .. 'task:' .. id, TASK_FIELDS)
  if task then
    task.live = call('HLEN', K .. 'live:' .. id)
    task.running = task.live
    if task.live > 0 and task.attempt ~= '0' then
      task.running = 0
      for _, job in ipairs(call('HVALS', K .. 'live:' .. id)) do
        local waits = call('ZSCORE', K .. 'due', 'r:' .. job)
        if not waits then
          task.running = task.running + 1
        end
      end
    end
  end
  return task
end

local function load_job(id)
  return load(K .. 'job:' .. id, JOB_FIELDS)
end

local function stream_of(job)
  return K .. 'q:' .. job.queue .. ':' .. job.prio
end

-- The offset that `core.jitter` computes: a hash of task and nominal time, in [0, bound).
local function jitter(task_id, nominal_text, bound)
  if bound <= 0 then
    return 0
  end
  local hash = tonumber(string.sub(redis.sha1hex(task_id .. ':' .. nominal_text), 1, 13), 16)
  return math.floor(hash / 4503599627370496 * bound)
end

local function arm(task_id, task, nominal_text, due_text)
  task.nominal, task.due, task.next = nominal_text, due_text, due_text
  call('HSET', K .. 'task:' .. task_id, 'nominal', nominal_text, 'due', due_text,
    'next', due_text)
  call('ZADD', K .. 'due', due_text, 't:' .. task_id)
end

local function disarm(task_id, task)
  task.due = ''
  call('HSET', K .. 'task:' .. task_id, 'due', '')
  call('ZREM', K .. 'due', 't:' .. task_id)
end

-- Wake the sleeping dispatcher when something becomes due before it meant to look again.
local function wake_dispatcher(due)
  call('PUBLISH', K .. 'wake', int(due))
end

-- Journal: the newest entry is a field of the task, `outcome|first|last|count|reason`;
-- consecutive ticks of one outcome and reason widen it. Older entries go to a capped list.
local JOURNAL_CAP = 200
local function journal(task_id, task, outcome, first, last, count, reason)
  local prefix = outcome .. '|'
  local o_first, o_last, o_count, o_reason
  if string.sub(task.journal, 1, #prefix) == prefix then
    o_first, o_last, o_count, o_reason = string.match(task.journal,
      '^%a+|(%d+)|(%d+)|(%d+)|(.*)$')
  end
  local widened = o_reason == reason
  if widened then
    first, count = o_first, int(tonumber(o_count) + tonumber(count))
  elseif task.journal ~= '' then
    call('LPUSH', K .. 'journal:' .. task_id, task.journal)
    call('LTRIM', K .. 'journal:' .. task_id, 0, JOURNAL_CAP - 1)
  end
  task.journal = prefix .. first .. '|' .. last .. '|' .. count .. '|' .. reason
  return widened, o_last
end

-- Jobs ----------------------------------------------------------------------------------------

-- Write a new job record from a task-like source: one that has the TASK_FIELDS a job needs.
local function create_job(id, job, source)
  job.status, job.deliv, job.crashes, job.node = 'scheduled', '0', '0', ''
  job.created, job.started = NOW_TEXT, NOW_TEXT
  call('HSET', K .. 'job:' .. id, 'status', job.status, 'task', job.task, 'name', job.name,
    'run', job.run, 'kind', job.kind, 'nominal', job.nominal, 'inc', job.inc,
    'attempt', job.attempt, 'created', job.created, 'started', job.started,
    'handler', job.handler, 'queue', job.queue, 'prio', job.prio, 'entry', job.entry,
    'node', '', 'deliv', '0', 'crashes', '0', 'maxc', job.maxc, 'snap', job.snap,
    'spec', source.spec, 'args', source.args)
  later(pending_zadd, K .. 'jobs', NOW_TEXT, id)
end

-- Create a job and append it to its stream.
local function enqueue_job(id, job, source)
  job.entry = call('XADD', stream_of(job), '*', 'j', id)
  create_job(id, job, source)
  emit_job('job_scheduled', id, job)
end

-- Start a run of a stored task: live set, job, stream.
local function start_run(task_id, task, run_id, job_id, kind, nominal)
  call('HSET', K .. 'live:' .. task_id, run_id, job_id)
  task.live, task.running = task.live + 1, task.running + 1
  enqueue_job(job_id, { task = task_id, name = task.name, run = run_id, kind = kind,
    nominal = nominal, inc = task.inc, attempt = '1', handler = task.handler,
    queue = task.queue, prio = task.prio, maxc = task.maxc, snap = task_json(task) }, task)
end

-- End the current delivery's stream entry, whoever holds it. A job taken from a parked set has
-- none: its entry is `parked-<ms>`.
local function end_entry(job)
  if job.entry ~= '' and string.sub(job.entry, 1, 1) ~= 'p' then
    later(pending_ack, stream_of(job), job.entry)
  end
  job.entry = ''
end

-- Put a job back into its stream: the next delivery. Fields not given stay as they are.
local function requeue(id, job)
  end_entry(job)
  job.entry = call('XADD', stream_of(job), '*', 'j', id)
  job.status, job.node, job.parked = 'scheduled', '', ''
  call('HSET', K .. 'job:' .. id, 'status', 'scheduled', 'entry', job.entry, 'node', '',
    'crashes', job.crashes, 'parked', '')
end

-- Take a job that is not running out of wherever it waits.
local function withdraw(id, job)
  end_entry(job)
  call('ZREM', K .. 'due', 'r:' .. id)
  if job.parked ~= '' then
    call('LREM', K .. 'parked:' .. job.parked, 1, id)
  end
end

local function remove_task(task_id, task)
  call('ZREM', K .. 'due', 't:' .. task_id)
  call('ZREM', K .. 'tasks', task_id)
  call('DEL', K .. 'task:' .. task_id, K .. 'journal:' .. task_id)
  if task.pinned ~= '' then
    call('SREM', K .. 'pinned:' .. task.pinned, task_id)
  end
end

local DEAD_CAP = 10000

-- Write the final record of a job. What only a live job needs is dropped, so that a finished
-- one stays small; a dead letter keeps everything, so that it can be looked at and sent again.
local function finalize(id, job, retention, result)
  local key = K .. 'job:' .. id
  job.ended = NOW_TEXT
  if job.dead == '1' then
    call('HSET', key, 'status', job.status, 'ended', NOW_TEXT, 'dur', job.dur or '',
      'err', job.err or '', 'dead', '1', 'entry', '', 'crashes', job.crashes)
    call('ZADD', K .. 'dead', NOW_TEXT, id)
    local surplus = call('ZCARD', K .. 'dead') - DEAD_CAP
    if surplus > 0 then
      for _, old in ipairs(call('ZRANGE', K .. 'dead', 0, surplus - 1)) do
        later(pending_zadd, K .. 'ended', NOW_TEXT, old)
      end
      call('ZREMRANGEBYRANK', K .. 'dead', 0, surplus - 1)
    end
    return
  end
  call('DEL', key)
  call('HSET', key, 'status', job.status, 'task', job.task, 'name', job.name, 'run', job.run,
    'kind', job.kind, 'nominal', job.nominal, 'attempt', job.attempt, 'created', job.created,
    'started', job.started, 'ended', NOW_TEXT, 'dur', job.dur or '', 'err', job.err or '',
    'handler', job.handler, 'queue', job.queue, 'prio', job.prio, 'node', job.node,
    'deliv', job.deliv, 'crashes', job.crashes)
  if result and result ~= '' then
    call('HSET', key, 'result', result)
  end
  later(pending_zadd, K .. 'ended', int(NOW + retention), id)
end

-- An active task with no live run and nothing due: one that counts from the end of its runs is
-- armed again, any other is spent and ends. Its id goes on answering waits with its last job.
local function conclude(task_id, task, retention, job_id)
  if task.state ~= 'active' or task.live > 0 or task.due ~= '' then
    return
  end
  if task.mode == 'after' then
    local nominal = int(math.max(NOW + tonumber(task.every), tonumber(task.last) + 1))
    local due = tonumber(nominal) + jitter(task_id, nominal, tonumber(task.jitter))
    arm(task_id, task, nominal, int(due))
    wake_dispatcher(due)
    return
  end
  remove_task(task_id, task)
  if job_id then
    call('SET', K .. 'spent:' .. task_id, job_id, 'PX', int(math.max(retention, 1)))
  end
  emit_task('task_ended', task)
end

-- What the end of a run means for its task: it is live no more. A task of another incarnation
-- (removed and added again under the same id) is not this run's business.
local function release_run(job, retention, job_id)
  call('HDEL', K .. 'live:' .. job.task, job.run)
  local task = load_task(job.task)
  if not task or task.inc ~= job.inc then
    return
  end
  if task.attempt ~= '0' then
    task.attempt = '0'
    call('HSET', K .. 'task:' .. job.task, 'attempt', '0')
  end
  conclude(job.task, task, retention, job_id)
end

local KIND_OF = { completed = 'job_completed', failed = 'job_failed', cancelled = 'job_cancelled' }

-- The only way to a run's end, on every path. `job` carries status, dur, err and, for a dead
-- letter, dead = '1'. A final failure of a submission or a run-once task is a dead letter.
local function settle_run(id, job, retention, result)
  end_entry(job)
  if job.status == 'failed' and job.dead ~= '1' and job.kind == 'submit' then
    job.dead = '1'
  end
  if job.status == 'failed' and job.kind ~= 'submit' then
    local mode = call('HGET', K .. 'task:' .. job.task, 'mode')
    if mode == 'once' then
      job.dead = '1'
    end
  end
  finalize(id, job, retention, result)
  emit_job(KIND_OF[job.status], id, job)
  if job.dead == '1' then
    emit_job('job_dead', id, job)
  end
  if job.kind ~= 'submit' then
    release_run(job, retention, id)
  end
end

-- Fencing -------------------------------------------------------------------------------------

-- True when `holder` (`node|epoch`) still is what the leader lease holds.
local function leads(holder)
  return call('HGET', K .. 'leader', 'holder') == holder
end

local function node_json(id)
  local stored = call('HMGET', K .. 'node:' .. id, 'json')
  return stored[1] or ('{"id":"' .. id .. '"}')
end

local function flush()
  for key, list in pairs(pending_zadd) do
    in_chunks(list, function(...) call('ZADD', key, ...) end)
  end
  for key, list in pairs(pending_zrem) do
    in_chunks(list, function(...) call('ZREM', key, ...) end)
  end
  for stream, list in pairs(pending_ack) do
    in_chunks(list, function(...)
      redis.pcall('XACK', stream, 'workers', ...)
      call('XDEL', stream, ...)
    end)
  end
  if log_state then
    local fields = { 'mean_bytes', string.format('%.1f', log_state.mean) }
    for kind, id in pairs(log_state.ids) do
      fields[#fields + 1] = kind
      fields[#fields + 1] = id
    end
    call('HSET', K .. 'logstate', unpack(fields))
  end
end
