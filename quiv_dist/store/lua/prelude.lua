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

-- Gathered during the operation, written once by flush(): key to list.
local pending_zadd, pending_zrem, pending_ack, pending_del = {}, {}, {}, {}

local function later(pending, key, ...)
  local list = pending[key]
  if not list then
    list = {}
    pending[key] = list
  end
  local size = #list
  local first, second = ...
  list[size + 1] = first
  list[size + 2] = second
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

-- Calls ---------------------------------------------------------------------------------------

local CALL_ID = ''

-- A caller sends a call again when the reply was lost. What it did the first time is remembered
-- for a minute, far longer than a caller goes on trying, so that a call is applied once.
local CALL_MEMORY_MS = 60000
local function call_key(operation, id)
  return K .. 'call:' .. CALL_ID .. ':' .. operation .. ':' .. id
end

local function remembered(operation, id)
  return CALL_ID ~= '' and call('GET', call_key(operation, id))
end

local function remember(operation, id, reply)
  if CALL_ID ~= '' then
    call('SET', call_key(operation, id), reply, 'PX', CALL_MEMORY_MS)
  end
end

-- Events --------------------------------------------------------------------------------------

-- The log as this script leaves it: newest id, bytes ever written, marks for trimming, and the
-- newest id of each kind it emitted.
local log_state

local function open_log()
  local stored = call('HMGET', K .. 'logstate', 'last', 'bytes', 'marks')
  local ms, seq = string.match(stored[1] or '0-0', '^(%d+)-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq)
  -- As the server numbers entries itself: never backwards, not even when its clock steps back.
  if NOW > ms then
    ms, seq = NOW, 0
  end
  log_state = { ms = int(ms), seq = seq, bytes = tonumber(stored[2] or 0),
    marks = stored[3] or '', ids = {},
    tail = ',"at_ms":' .. NOW_TEXT .. ',"partition":' .. PARTITION .. ',"log":"' .. INCARNATION ..
      '","call":"' .. CALL_ID .. '",' }
end

-- What an entry costs beside its message: field names, id, its share of the stream's tree.
local ENTRY_BYTES = 200

-- Append an event to the log and publish the same bytes. The message is the envelope and up to
-- four pieces of JSON members. The envelope carries the id of the previous event of its kind, so
-- that a reader sees a gap. The id is made here, so that the message is built once.
local function emit(kind, a, b, c, d)
  if not log_state then
    open_log()
  end
  local prev = log_state.ids[kind] or call('HGET', K .. 'logstate', kind) or ''
  log_state.seq = log_state.seq + 1
  local id = log_state.ms .. '-' .. log_state.seq
  local message = '{"id":"' .. id .. '","prev":"' .. prev .. '","type":"' .. kind .. '"' ..
    log_state.tail .. a .. (b or '') .. (c or '') .. (d or '') .. '}'
  call('XADD', K .. 'log', id, 'k', kind, 'p', prev, 'm', message)
  call('PUBLISH', K .. 'event:' .. kind, message)
  log_state.ids[kind] = id
  log_state.bytes = log_state.bytes + #message + ENTRY_BYTES
end

-- The log is bounded by bytes: each sixteenth of the bound leaves a mark (id and bytes until
-- there), and the log begins after the mark that keeps it within the bound.
local function close_log()
  local step = LOG_BYTES / 16
  local last = log_state.ms .. '-' .. log_state.seq
  local newest = tonumber(string.match(log_state.marks, '(%d+) $') or 0)
  if log_state.bytes - newest >= step then
    log_state.marks = log_state.marks .. last .. ':' .. int(log_state.bytes) .. ' '
    local cut
    for id, bytes, rest in string.gmatch(log_state.marks, '(%d+%-%d+):(%d+) ()') do
      if log_state.bytes - tonumber(bytes) < LOG_BYTES - 2 * step then
        break
      end
      cut = { id = id, rest = rest }
    end
    if cut then
      log_state.marks = string.sub(log_state.marks, cut.rest)
      local ms, seq = string.match(cut.id, '^(%d+)-(%d+)$')
      call('XTRIM', K .. 'log', 'MINID', ms .. '-' .. int(tonumber(seq) + 1))
    end
    call('HSET', K .. 'logstate', 'marks', log_state.marks)
  end
  local fields = { 'last', last, 'bytes', int(log_state.bytes) }
  for kind, id in pairs(log_state.ids) do
    fields[#fields + 1] = kind
    fields[#fields + 1] = id
  end
  call('HSET', K .. 'logstate', unpack(fields))
end

local function task_json(task)
  local status = task.state
  if status == 'active' and task.running > 0 then
    status = 'running'
  end
  return '{' .. task.snap .. ',"status":"' .. status .. '","next_run_at_ms":' .. task.next ..
    ',"retry_attempt":' .. task.attempt .. ',"revision":' .. task.rev ..
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
  emit(kind, '"task":', job.snap, ',"job":', job_json(id, job))
end

local function emit_task(kind, task)
  emit(kind, '"task":', task_json(task))
end

-- Records -------------------------------------------------------------------------------------

local TASK_FIELDS = { 'rev', 'inc', 'state', 'due', 'next', 'nominal', 'last', 'attempt',
  'reason', 'snap', 'def', 'spec', 'args', 'journal', 'pinned' }

-- The short values of a definition are one packed field, `def`: a field of its own costs each of
-- them more than its bytes, in memory and at every read.
local PACKED = { 'name', 'handler', 'queue', 'prio', 'maxc', 'mode', 'every', 'jitter' }

-- The definition given as pairs from ARGV[first] on: by name, and as fields to write.
local function definition_of(first)
  local definition, packed, fields = {}, {}, {}
  for i = first, #ARGV, 2 do
    definition[ARGV[i]] = ARGV[i + 1]
  end
  for i, name in ipairs(PACKED) do
    packed[i] = definition[name]
  end
  for _, name in ipairs({ 'trigger', 'snap', 'spec', 'args', 'pinned', 'fingerprint' }) do
    if definition[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = definition[name]
    end
  end
  fields[#fields + 1] = 'def'
  fields[#fields + 1] = cmsgpack.pack(packed)
  return definition, fields
end

-- What a reader is given as the revision, and a writer must bring back: a task that was removed
-- and added again under its id may have reached the same number and the same due time.
local function revision(rev, inc)
  return rev .. '@' .. inc
end

-- A task record with `live`: how many of its runs have not ended, and `running`: how many of
-- those do not wait for a retry.
local function load_task(id)
  local v = call('HMGET', K .. 'task:' .. id, unpack(TASK_FIELDS))
  if not v[1] then
    return nil
  end
  local live = call('HLEN', K .. 'live:' .. id)
  local running, next_run = live, v[5]
  if live > 0 and v[8] ~= '0' then
    for _, job in ipairs(call('HVALS', K .. 'live:' .. id)) do
      local retry_at = call('ZSCORE', K .. 'due', 'r:' .. job)
      if retry_at then
        running, next_run = running - 1, int(tonumber(retry_at))
      end
    end
  end
  local d = cmsgpack.unpack(v[11])
  return { rev = v[1], inc = v[2], state = v[3], due = v[4] or '', next = next_run,
    nominal = v[6] or '', last = v[7], attempt = v[8], reason = v[9] or '', snap = v[10],
    spec = v[12], args = v[13], journal = v[14] or '', pinned = v[15] or '', live = live,
    running = running, revision = revision(v[1], v[2]), name = d[1], handler = d[2],
    queue = d[3], prio = d[4], maxc = d[5], mode = d[6], every = d[7], jitter = d[8] }
end

-- A job record is a hash of what changes (status, entry, node, deliv, crashes, started, stop,
-- parked), of `core`: what never does, packed, and of what its run needs (snap, spec, args).
-- When it has ended only its status and `final` are left: few and large fields cost a
-- server the least to write and to keep. A dead letter keeps all of it.
local function load_job(id)
  local v = call('HMGET', K .. 'job:' .. id, 'status', 'core', 'entry', 'node', 'deliv',
    'crashes', 'started', 'stop', 'parked', 'snap', 'spec', 'args', 'progress')
  if not v[1] then
    return nil
  elseif not v[2] then
    return { status = v[1] }
  end
  local c = cmsgpack.unpack(v[2])
  return { status = v[1], core = v[2], entry = v[3] or '', node = v[4] or '', deliv = v[5] or '0',
    crashes = v[6] or '0', started = v[7] or c[8], stop = v[8] or '', parked = v[9] or '',
    snap = v[10], spec = v[11], args = v[12], task = c[1], name = c[2], run = c[3], kind = c[4],
    nominal = c[5], inc = c[6], attempt = c[7], created = c[8], handler = c[9], queue = c[10],
    prio = c[11], maxc = c[12], progress = v[13] }
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

-- Tasks pinned to a node go when it has gone, so the set of each node follows the records.
local function move_pinned(task_id, from, to)
  to = to or from
  if from ~= to then
    if from ~= '' then
      call('SREM', K .. 'pinned:' .. from, task_id)
    end
    if to ~= '' then
      call('SADD', K .. 'pinned:' .. to, task_id)
    end
  end
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

-- Write a new job record and append it to its stream, if it has one to go to now.
local function create_job(id, job)
  job.status, job.deliv, job.crashes, job.node = 'scheduled', '0', '0', ''
  job.created, job.started = NOW_TEXT, NOW_TEXT
  job.core = cmsgpack.pack({ job.task, job.name, job.run, job.kind, job.nominal, job.inc,
    job.attempt, job.created, job.handler, job.queue, job.prio, job.maxc })
  call('HSET', K .. 'job:' .. id, 'status', 'scheduled', 'core', job.core, 'entry', job.entry,
    'snap', job.snap, 'spec', job.spec, 'args', job.args)
  later(pending_zadd, K .. 'jobs', NOW_TEXT, id)
end

local function enqueue_job(id, job)
  job.entry = call('XADD', stream_of(job), '*', 'j', id)
  create_job(id, job)
  emit_job('job_scheduled', id, job)
end

-- Start a run of a stored task: live set, job, stream.
local function start_run(task_id, task, run_id, job_id, kind, nominal)
  call('HSET', K .. 'live:' .. task_id, run_id, job_id)
  task.live, task.running = task.live + 1, task.running + 1
  enqueue_job(job_id, { task = task_id, name = task.name, run = run_id, kind = kind,
    nominal = nominal, inc = task.inc, attempt = '1', handler = task.handler,
    queue = task.queue, prio = task.prio, maxc = task.maxc, snap = task_json(task),
    spec = task.spec, args = task.args })
end

-- End the current delivery's stream entry, whoever holds it. A job that was claimed is no longer
-- pending in the group. One taken from a parked set has no entry: `parked-<ms>` stands for it.
local function end_entry(job)
  if job.entry ~= '' and string.sub(job.entry, 1, 1) ~= 'p' then
    later(job.node == '' and pending_ack or pending_del, stream_of(job), job.entry)
  end
  job.entry = ''
end

-- Put a job back into its stream: the next delivery.
local function requeue(id, job)
  end_entry(job)
  job.entry = call('XADD', stream_of(job), '*', 'j', id)
  job.status, job.node = 'scheduled', ''
  call('HSET', K .. 'job:' .. id, 'status', 'scheduled', 'entry', job.entry, 'node', '',
    'crashes', job.crashes)
end

-- Take an entry that names no job out of its stream and keep its bytes, in hexadecimal as they
-- may be any, cut at a size that keeps the list small.
local SHOWN_BYTES = 16384
local function keep_malformed(stream, entry, fields)
  local shown, left = {}, SHOWN_BYTES
  for _, value in ipairs(fields) do
    if left > 0 then
      shown[#shown + 1] = '"' .. string.gsub(string.sub(value, 1, left), '.', function(byte)
        return string.format('%02x', string.byte(byte))
      end) .. '"'
      left = left - #value
    end
  end
  call('LPUSH', K .. 'malformed', '{"stream":' .. json(string.sub(stream, #K + 1)) ..
    ',"entry":"' .. entry .. '","at_ms":' .. NOW_TEXT .. ',"fields_hex":[' ..
    table.concat(shown, ',') .. ']}')
  call('LTRIM', K .. 'malformed', 0, 999)
  later(pending_ack, stream, entry)
end

-- The job that an entry names, if it still is the job's current one; and its id.
local function job_of_entry(stream, entry, fields)
  local id = #fields == 2 and fields[1] == 'j' and #fields[2] <= 64 and fields[2]
  local job = id and load_job(id)
  if not job then
    keep_malformed(stream, entry, fields)
  elseif job.entry ~= entry then
    later(pending_ack, stream, entry)
  else
    return job, id
  end
end

-- What was handed to a node and not claimed goes back to the stream. True if it was a job.
local function put_back(stream, entry)
  local found = call('XRANGE', stream, entry, entry)[1]
  if not found then
    later(pending_ack, stream, entry)
    return
  end
  local job, id = job_of_entry(stream, entry, found[2])
  if job and job.status == 'scheduled' then
    requeue(id, job)
    return id
  elseif job then
    later(pending_ack, stream, entry)
  end
end

local function unpark(place, id)
  local parked = K .. 'parked:' .. place
  call('LREM', parked, 1, id)
  if call('EXISTS', parked) == 0 then
    call('ZREM', K .. 'parked', place)
  end
end

-- Take a job that is not running out of wherever it waits.
local function withdraw(id, job)
  end_entry(job)
  call('ZREM', K .. 'due', 'r:' .. id)
  if job.parked ~= '' then
    unpark(job.parked, id)
  end
end

-- The runs of a removed task are no longer live for anyone: a task added under the same id later
-- is another incarnation and does not wait for them.
local function remove_task(task_id, task)
  call('ZREM', K .. 'due', 't:' .. task_id)
  call('ZREM', K .. 'tasks', task_id)
  call('DEL', K .. 'task:' .. task_id, K .. 'journal:' .. task_id, K .. 'live:' .. task_id)
  if task.pinned ~= '' then
    call('SREM', K .. 'pinned:' .. task.pinned, task_id)
  end
end

local DEAD_CAP = 10000

-- Write the final record of a job: small, but for a dead letter, which keeps what it needs to be
-- looked at and sent again.
local function finalize(id, job, retention, result)
  local key = K .. 'job:' .. id
  job.ended = NOW_TEXT
  local final = cmsgpack.pack({ job.task, job.name, job.run, job.kind, job.nominal, job.attempt,
    job.created, job.handler, job.queue, job.prio, job.node, job.deliv, job.crashes, job.started,
    job.ended, job.dur or '', job.err or '', job.dead or '' })
  if job.dead == '1' then
    call('HSET', key, 'status', job.status, 'final', final, 'entry', '')
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
  call('HSET', key, 'status', job.status, 'final', final)
  if result and result ~= '' then
    call('HSET', key, 'result', result)
  end
  if job.progress then
    call('HSET', key, 'progress', job.progress)
  end
  later(pending_zadd, K .. 'ended', int(NOW + retention), id)
end

-- An active task with no live run and nothing due: one that counts from the end of its runs is
-- armed again, any other is spent and ends. Its id goes on answering waits with its last job.
local function conclude(task_id, task, retention, job_id)
  if task.live > 0 or task.due ~= '' then
    return
  end
  -- A paused run-once task whose only run has ended is spent too, unless it was given another time.
  if task.state ~= 'active' and
    (task.mode ~= 'once' or tonumber(task.nominal) > tonumber(task.last)) then
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
  if call('HGET', K .. 'task:' .. job.task, 'inc') ~= job.inc then
    return
  end
  call('HDEL', K .. 'live:' .. job.task, job.run)
  local task = load_task(job.task)
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
    local task = load_task(job.task)
    if task and task.mode == 'once' and task.inc == job.inc then
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
  for stream, list in pairs(pending_del) do
    in_chunks(list, function(...) call('XDEL', stream, ...) end)
  end
  if log_state then
    close_log()
  end
end
