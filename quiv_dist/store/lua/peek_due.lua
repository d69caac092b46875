-- The leader's look-ahead: what is due soonest. Reads only.
-- KEYS[1] meta
-- ARGV    1 how far ahead to look, ms  2 most members
-- Reply   {server time ms, {member, due, revision, nominal, anchor, trigger, incarnation}...}; a
--         retry (`r:<job>`) has only member and due. Times in ms
-- Events  none
local found = call('ZRANGEBYSCORE', K .. 'due', '-inf', int(NOW + tonumber(ARGV[1])),
  'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[2]))
local reply = { NOW_TEXT }
for i = 1, #found, 2 do
  local member = found[i]
  if string.sub(member, 1, 2) == 't:' then
    local task = call('HMGET', K .. 'task:' .. string.sub(member, 3), 'due', 'rev', 'nominal',
      'anchor', 'trigger', 'inc')
    local read = task[2] and revision(task[2], task[6]) or ''
    reply[#reply + 1] = { member, task[1] or '', read, task[3] or '', task[4] or '',
      task[5] or '', task[6] or '' }
  else
    reply[#reply + 1] = { member, int(tonumber(found[i + 1])) }
  end
end
return reply
