-- Load for wrk: wrk ... URL -- BODIES CELL [name=value ...]
--
-- BODIES holds one JSON body a line, each with twelve '@' where every request puts a word of its own, so that no two
-- requests of a run are equal and no cache can answer. CELL makes the words of different runs different.

local placeholder = string.rep("@", 12)
local consonants, vowels = "bdfgklmnprstvwzj", "aeiou"
local prefixes, suffixes, sent = {}, {}, 0
local syllables, cell_word = {}, ""

local function word(number, count)
    local parts = {}
    for i = 1, count do
        parts[i] = syllables[number % #syllables]
        number = math.floor(number / #syllables)
    end
    return table.concat(parts)
end

function init(args)
    for c in consonants:gmatch(".") do
        for v in vowels:gmatch(".") do syllables[#syllables + 1] = c .. v end
    end
    syllables[0] = table.remove(syllables)
    for i = 3, #args do
        local name, value = args[i]:match("^([^=]+)=(.*)$")
        wrk.headers[name] = value
    end
    wrk.headers["Content-Type"] = "application/json"
    for line in io.lines(args[1]) do
        local request = wrk.format("POST", nil, nil, line)
        local from, to = request:find(placeholder, 1, true)
        prefixes[#prefixes + 1] = request:sub(1, from - 1)
        suffixes[#suffixes + 1] = request:sub(to + 1)
    end
    cell_word = word(tonumber(args[2]), 2)
end

function request()
    sent = sent + 1
    local i = sent % #prefixes + 1
    return prefixes[i] .. cell_word .. word(sent, 4) .. suffixes[i]
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        'figures {"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
        '"connect_errors": %d, "read_errors": %d, "write_errors": %d, "status_errors": %d, "timeouts": %d}\n',
        summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
        e.connect, e.read, e.write, e.status, e.timeout))
end
