-- Try commands and keys at start-up, so that what a server refuses is known before any work is
-- done: a script that is refused in its middle leaves behind what it has written. Runs without the
-- prelude, which needs commands itself.
--
-- Permission is checked before types, so commands are tried on a string: those that may run fail
-- by its type and change nothing. The string goes at the end, and by expiry if that is refused.
-- KEYS[1] meta
-- ARGV    1 name of the string, random  2 number of commands, then as many: names as an ACL has
--         them  then pairs of key name and '1' if it is written too
-- Reply   {command or key name, error of the server, ...}
-- Events  none
local K = string.sub(KEYS[1], 1, -5)
local probe = K .. 'probe:' .. ARGV[1]
local EXPIRY_MS = 60000

local CALLS = {
  ['del'] = { 'DEL', probe },
  ['exists'] = { 'EXISTS', probe },
  ['get'] = { 'GET', probe },
  ['hdel'] = { 'HDEL', probe, 'f' },
  ['hget'] = { 'HGET', probe, 'f' },
  ['hgetall'] = { 'HGETALL', probe },
  ['hlen'] = { 'HLEN', probe },
  ['hmget'] = { 'HMGET', probe, 'f' },
  ['hset'] = { 'HSET', probe, 'f', 'v' },
  ['hvals'] = { 'HVALS', probe },
  ['lpop'] = { 'LPOP', probe },
  ['lpush'] = { 'LPUSH', probe, 'v' },
  ['lrange'] = { 'LRANGE', probe, 0, 0 },
  ['lrem'] = { 'LREM', probe, 1, 'v' },
  ['ltrim'] = { 'LTRIM', probe, 0, 0 },
  -- Nobody listens there: nodes have UUIDs.
  ['publish'] = { 'PUBLISH', K .. 'node:probe', '' },
  ['rpush'] = { 'RPUSH', probe, 'v' },
  ['sadd'] = { 'SADD', probe, 'v' },
  ['set'] = { 'SET', probe, '', 'PX', EXPIRY_MS },
  ['sismember'] = { 'SISMEMBER', probe, 'v' },
  ['smembers'] = { 'SMEMBERS', probe },
  ['srem'] = { 'SREM', probe, 'v' },
  ['time'] = { 'TIME' },
  ['xack'] = { 'XACK', probe, 'workers', '0-1' },
  ['xadd'] = { 'XADD', probe, '*', 'j', 'v' },
  ['xdel'] = { 'XDEL', probe, '0-1' },
  ['xgroup|create'] = { 'XGROUP', 'CREATE', probe, 'workers', '0' },
  ['xgroup|delconsumer'] = { 'XGROUP', 'DELCONSUMER', probe, 'workers', 'probe' },
  ['xpending'] = { 'XPENDING', probe, 'workers', 'IDLE', 0, '-', '+', 1 },
  ['xrange'] = { 'XRANGE', probe, '-', '+', 'COUNT', 1 },
  ['xreadgroup'] = { 'XREADGROUP', 'GROUP', 'workers', 'probe', 'COUNT', 1, 'STREAMS', probe, '>' },
  ['xrevrange'] = { 'XREVRANGE', probe, '+', '-', 'COUNT', 1 },
  ['xtrim'] = { 'XTRIM', probe, 'MINID', '0-1' },
  ['zadd'] = { 'ZADD', probe, 1, 'v' },
  ['zcard'] = { 'ZCARD', probe },
  ['zrange'] = { 'ZRANGE', probe, 0, 0 },
  ['zrangebyscore'] = { 'ZRANGEBYSCORE', probe, 0, 1, 'LIMIT', 0, 1 },
  ['zrem'] = { 'ZREM', probe, 'v' },
  ['zremrangebyrank'] = { 'ZREMRANGEBYRANK', probe, 0, 0 },
  ['zrevrange'] = { 'ZREVRANGE', probe, 0, 0 },
  ['zrevrangebyscore'] = { 'ZREVRANGEBYSCORE', probe, 1, 0 },
  ['zscore'] = { 'ZSCORE', probe, 'v' },
}

local errors = {}
local function try(name, command)
  local reply = redis.pcall(unpack(command))
  local refused = type(reply) == 'table' and reply.err
  if refused then
    errors[#errors + 1] = name
    errors[#errors + 1] = reply.err
  end
  return not refused
end

local wanted = {}
local count = tonumber(ARGV[2])
for i = 3, 2 + count do
  if not CALLS[ARGV[i]] then
    return redis.error_reply('ERR the probe does not know the command ' .. ARGV[i])
  end
  wanted[ARGV[i]] = true
end

-- Without the string the commands that write do write, so what they leave must be removable.
if wanted.set and not try('set', CALLS.set) and not try('del', CALLS.del) then
  return errors
end
for name, command in pairs(CALLS) do
  if wanted[name] and name ~= 'set' and name ~= 'del' then
    try(name, command)
  end
end
for i = 3 + count, #ARGV, 2 do
  local key = K .. ARGV[i]
  if try(ARGV[i], { 'HMGET', key, 'probe' }) and ARGV[i + 1] == '1' then
    try(ARGV[i], { 'HDEL', key, 'probe' })
  end
end
if wanted.del then
  try('del', CALLS.del)
end
return errors
