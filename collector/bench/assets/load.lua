-- wrk's load: distinct made-up clicks and orders, by the formulas of people.py; cheap, because it shares the processors.
--   wrk … -s load.lua URL -- KIND KEY FIRST STORED       KIND: click, batch, mixed, order
local format, floor, sub = string.format, math.floor, string.sub
local kind, head, n, stored
local ITEMS = 1000

-- Padded, and hexadecimal: a format call costs four times as much, and a click would need eleven.
local ZEROS, HEX, AGENTS = "000000000000", {}, {}
local function padded(i, width)
  local digits = tostring(i)
  return sub(ZEROS, 1, width - #digits) .. digits
end
local function hex(i)
  local known = HEX[i]
  if not known then
    known = format("%x", i)
    HEX[i] = known
  end
  return known
end

local function address(i)
  if i % 100 == 0 then return "81.2.69.142" end
  if i % 10 < 3 then
    local c = i * 7919 % 2003
    return "82." .. floor(c / 256) .. "." .. c % 256 .. ".7"
  end
  local home = floor(i / 3) % 3300000
  if home % 4 ~= 0 then return "2a02:" .. hex(floor(home / 65536)) .. ":" .. hex(home % 65536) .. "::" .. i % 7 + 1 end
  return 40 + floor(home / 65536) .. "." .. floor(home / 256) % 256 .. "." .. home % 256 .. ".9"
end

local function agent(i)
  local which = i % 140 -- a multiple of 4, 7 and 10
  local known = AGENTS[which]
  if not known then
    known = format("Mozilla/5.0 (iPhone; CPU iPhone OS %d_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " ..
      "Mobile/15E148 [FBAN/FBIOS;FBAV/4%d0.0.0.50]", 15 + i % 4, i % 7, i % 10)
    AGENTS[which] = known
  end
  return known
end

local function visitor(i)
  return i % 4 == 0 and i - 1 or i
end

local function click(i, tag)
  return "{" .. tag .. '"storeId":"store_bench","fbclid":"IwZXh0bgNhZW0BMABhZGlkAasLq5VmQ' .. padded(i, 12) ..
    'AR7SgPz0kLyGxTq","landingPage":"https://shop.example/p/' .. i % 997 .. "?utm_source=facebook&utm_campaign=c" ..
    i % 31 .. '","ipAddress":"' .. address(i) .. '","userAgent":"' .. agent(i) .. '","visitorId":"v-' ..
    padded(visitor(i), 12) .. '","fbp":"fb.1.1700000000000.' .. padded(i, 10) .. '","fingerprint":"device-' ..
    padded(i * 7919 % 5000021, 7) .. '"}'
end

-- An order by a visitor of the newest fourteenth of the stored clicks: proved, inferred, organic in turn.
local function order(i, tag)
  local by = stored - math.random(0, floor(stored / 14))
  local who = ""
  if i % 3 == 0 then who = format(',"visitorId":"v-%012d","fingerprint":"device-%07d"', visitor(by), by * 7919 % 5000021)
  elseif i % 3 == 1 then who = format(',"fingerprint":"device-%07d"', by * 7919 % 5000021)
  else who = format(',"visitorId":"o-%012d"', i) end
  local ip = i % 3 == 2 and format("203.0.114.%d", by % 250 + 1) or address(by)
  return format('{%s"storeId":"store_bench","eventType":"Purchase","orderId":"bench-%d","eventValue":49.90,' ..
    '"currency":"USD","customerData":{"email":"p%d@example.com","phone":"+49151%08d","country":"US"},' ..
    '"eventSourceUrl":"https://shop.example/thanks","userAgent":"%s","ipAddress":"%s"%s}',
    tag, i, i, i % 100000000, agent(by), ip, who)
end

local function batch(mixed)
  local items = {}
  for i = 1, ITEMS do
    n = n + 1
    items[i] = (mixed and i % 10 == 0) and order(n, '"type":"conversion",') or click(n, '"type":"click",')
  end
  return "[" .. table.concat(items, ",") .. "]"
end

function init(args)
  kind, n, stored = args[1], tonumber(args[3]), tonumber(args[4])
  local path = (kind == "batch" or kind == "mixed") and "batch" or kind == "order" and "conversion" or "click"
  head = format("POST /v1/track/%s HTTP/1.1\r\nHost: bench.test\r\nAuthorization: Bearer %s\r\n" ..
    "Content-Type: application/json\r\nContent-Length: ", path, args[2])
  math.randomseed(n)
end

function request()
  local body
  if kind == "batch" or kind == "mixed" then
    body = batch(kind == "mixed")
  else
    n = n + 1
    body = kind == "click" and click(n, "") or order(n, "")
  end
  return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
  local failed = summary.errors
  io.write(format('\n{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
