-- Enqueue runs of handlers that belong to no stored task. Sending a batch again is harmless: a
-- job that exists is left as it is.
-- KEYS[1] meta
-- ARGV    1 call id  then 10 an item: 1 job id  2 run id  3 name  4 handler  5 queue  6 priority
--         7 spec  8 args  9 max_crashes  10 snap (the whole task JSON)
-- Reply   {OK | DUP} an item
-- Events  job_scheduled
CALL_ID = ARGV[1]
local reply = {}
for i = 2, #ARGV, 10 do
  local id = ARGV[i]
  if call('EXISTS', K .. 'job:' .. id) == 1 then
    reply[#reply + 1] = 'DUP'
  else
    enqueue_job(id, { task = ARGV[i + 1], run = ARGV[i + 1], name = ARGV[i + 2],
      handler = ARGV[i + 3], queue = ARGV[i + 4], prio = ARGV[i + 5], kind = 'submit',
      nominal = '', inc = '', attempt = '1', maxc = ARGV[i + 8], snap = ARGV[i + 9],
      spec = ARGV[i + 6], args = ARGV[i + 7] })
    reply[#reply + 1] = 'OK'
  end
end
return reply
