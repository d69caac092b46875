-- Take jobs for a worker: read its streams in order of priority and start what may start. One
-- stream entry is one delivery; a job starts only for the entry its record names. From then on
-- its lease says who has it, so the entry is acknowledged here: what stays pending in a group was
-- handed to a worker and never claimed. The entry itself goes when the delivery ends.
-- KEYS[1] meta
-- ARGV    1 node id  2 free slots  3 job lease, ms  4 history retention, ms  5 number of streams
--         then queue, priority of each stream, in order  then triples of what a blocking read
--         already delivered to this node: queue, priority, entry id
-- Reply   {server time ms, {job id, entry, delivery, crashes, core, spec, args, snap}...}; core is
--         a msgpack array of strings: task id, task name, run id, run kind, nominal ms,
--         incarnation, attempt, created ms, handler, queue, priority, max_crashes. UNREGISTERED for
--         a node that is not: nobody would watch its leases
-- Events  job_started; job_cancelled for a cancelled job
local node, slots, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local retention, streams = tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = { NOW_TEXT }
if call('EXISTS', K .. 'node:' .. node) == 0 then
  return redis.error_reply('UNREGISTERED this node has no record')
end
local lease_until = int(NOW + lease)
local claimed = {}

local served = {}
local function serves(handler)
  if served[handler] == nil then
    served[handler] = call('SISMEMBER', K .. 'handlers:' .. node, handler) == 1
  end
  return served[handler]
end

-- A job this node does not serve leaves the stream: it would be read again and again. It waits
-- for a node that serves it: one that lives is woken, a new one takes it when it registers.
local function park(id, job)
  local place = job.queue .. '|' .. job.handler
  end_entry(job)
  call('HSET', K .. 'job:' .. id, 'entry', '', 'parked', place)
  call('RPUSH', K .. 'parked:' .. place, id)
  call('ZADD', K .. 'parked', 'NX', NOW_TEXT, place)
  for _, other in ipairs(call('SMEMBERS', K .. 'serves:' .. place)) do
    call('PUBLISH', K .. 'node:' .. other, 'claim')
  end
end

local function start(id, job)
  job.status, job.node, job.started = 'running', node, NOW_TEXT
  job.deliv = int(tonumber(job.deliv) + 1)
  call('HSET', K .. 'job:' .. id, 'status', 'running', 'node', node, 'started', NOW_TEXT,
    'deliv', job.deliv, 'entry', job.entry)
  later(pending_zadd, K .. 'leases:' .. node, lease_until, id)
  later(pending_zadd, K .. 'jobs', NOW_TEXT, id)
  emit_job('job_started', id, job)
  reply[#reply + 1] = { id, job.entry, job.deliv, job.crashes, job.core, job.spec, job.args,
    job.snap }
  slots = slots - 1
end

local function take(stream, entry, fields)
  local job, id = job_of_entry(stream, entry, fields)
  if not job or job.status ~= 'scheduled' then
    return -- or claimed by an earlier call whose reply was lost: its lease decides
  elseif job.stop ~= '' then
    job.status, job.err = 'cancelled', ''
    settle_run(id, job, retention)
  elseif job.queue ~= '@' .. node and not serves(job.handler) then
    park(id, job)
  elseif slots <= 0 then
    requeue(id, job) -- a blocking read brings one entry of each of its streams
  else
    later(claimed, stream, entry)
    start(id, job)
  end
end

local function read(stream, count)
  local found = redis.pcall('XREADGROUP', 'GROUP', 'workers', node, 'COUNT', count, 'STREAMS',
    stream, '>')
  if found and found.err then
    if string.sub(found.err, 1, 7) ~= 'NOGROUP' then
      return {}
    end
    -- At 0 and not at `$`: what was added before the first worker came is waiting, not lost.
    call('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
    found = call('XREADGROUP', 'GROUP', 'workers', node, 'COUNT', count, 'STREAMS', stream, '>')
  end
  return found and found[1] and found[1][2] or {}
end

for i = 6 + streams * 2, #ARGV, 3 do
  local stream = K .. 'q:' .. ARGV[i] .. ':' .. ARGV[i + 1]
  local found = call('XRANGE', stream, ARGV[i + 2], ARGV[i + 2])
  if found[1] then
    take(stream, found[1][1], found[1][2])
  else
    later(pending_ack, stream, ARGV[i + 2])
  end
end

-- What parked before this node came to serve it, or while another read the stream first.
if slots > 0 and call('EXISTS', K .. 'parked') == 1 then
  for _, place in ipairs(call('ZRANGE', K .. 'parked', 0, -1)) do
    if slots > 0 and call('SISMEMBER', K .. 'serves:' .. place, node) == 1 then
      while slots > 0 do
        local id = call('LPOP', K .. 'parked:' .. place)
        if not id then
          call('ZREM', K .. 'parked', place)
          break
        end
        local job = load_job(id)
        if job and job.status == 'scheduled' and job.parked == place then
          job.parked, job.entry = '', 'parked-' .. NOW_TEXT
          call('HDEL', K .. 'job:' .. id, 'parked')
          start(id, job)
        end
      end
    end
  end
end

for s = 0, streams - 1 do
  local stream = K .. 'q:' .. ARGV[6 + s * 2] .. ':' .. ARGV[7 + s * 2]
  local rounds = 0
  -- Reading on is bounded: a stream full of what this node does not serve parks in passes.
  while slots > 0 and rounds < 4 do
    rounds = rounds + 1
    local count = slots
    local entries = read(stream, count)
    for _, entry in ipairs(entries) do
      take(stream, entry[1], entry[2])
    end
    if #entries < count then
      break
    end
  end
end
for stream, entries in pairs(claimed) do
  in_chunks(entries, function(...) call('XACK', stream, 'workers', ...) end)
end
return reply
