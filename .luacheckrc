-- Scripts run inside the server: Lua 5.1 with the server's API and without files, processes, modules.
local PRELUDE = "quiv_dist/store/lua/prelude.lua"

std = {
  globals = {},
  read_globals = {
    "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "setmetatable",
    "tonumber", "tostring", "type", "unpack",
    math = { other_fields = true },
    string = { other_fields = true },
    table = { other_fields = true },
    bit = { other_fields = true },
    cjson = { other_fields = true },
    cmsgpack = { other_fields = true },
    struct = { other_fields = true },
    redis = { other_fields = true },
    "ARGV", "KEYS",
  },
}
max_line_length = 100
codes = true
quiet = 1

-- The prelude is put in front of every operation, so its top-level locals are what an operation may
-- use: functions to call, variables also to set. They are read from the file, so that the list is
-- never out of date.
globals, read_globals = {}, {}
for line in io.lines(PRELUDE) do
  local name = line:match("^local%s+function%s+([%a_][%w_]*)")
  if name then
    read_globals[#read_globals + 1] = name
  else
    local names = line:match("^local%s+([%a_][%w_%s,]*)")
    for each in (names or ""):gmatch("[%a_][%w_]*") do
      globals[#globals + 1] = each
    end
  end
end

-- Defined for the operations, not for itself: unused, never set, never read.
files[PRELUDE] = { ignore = { "211", "221", "231" } }
