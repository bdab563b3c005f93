-- wrk's load: distinct made-up clicks and orders, by the formulas of people.py; cheap, because it shares the processors.
--   wrk … -s load.lua URL -- KIND KEY FIRST STORED       KIND: click, batch, mixed, order
local format, floor = string.format, math.floor
local kind, head, n, stored
local ITEMS = 1000

local function address(i)
  if i % 100 == 0 then return "81.2.69.142" end
  if i % 10 < 3 then
    local c = i * 7919 % 2003
    return format("82.%d.%d.7", floor(c / 256), c % 256)
  end
  local home = floor(i / 3) % 3300000
  if home % 4 ~= 0 then return format("2a02:%x:%x::%d", floor(home / 65536), home % 65536, i % 7 + 1) end
  return format("%d.%d.%d.9", 40 + floor(home / 65536), floor(home / 256) % 256, home % 256)
end

local function agent(i)
  return format("Mozilla/5.0 (iPhone; CPU iPhone OS %d_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " ..
    "Mobile/15E148 [FBAN/FBIOS;FBAV/4%d0.0.0.50]", 15 + i % 4, i % 7, i % 10)
end

local function visitor(i)
  return i % 4 == 0 and i - 1 or i
end

local function click(i, tag)
  return format('{%s"storeId":"store_bench","fbclid":"IwZXh0bgNhZW0BMABhZGlkAasLq5VmQ%012dAR7SgPz0kLyGxTq",' ..
    '"landingPage":"https://shop.example/p/%d?utm_source=facebook&utm_campaign=c%d","ipAddress":"%s","userAgent":"%s",' ..
    '"visitorId":"v-%012d","fbp":"fb.1.1700000000000.%010d","fingerprint":"device-%07d"}',
    tag, i, i % 997, i % 31, address(i), agent(i), visitor(i), i, i * 7919 % 5000021)
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
