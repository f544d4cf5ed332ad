-- The load: one body, posted again and again. At the end one line of JSON with the figures.
wrk.method = "POST"
wrk.body = os.getenv("BENCHMARK_BODY")
for line in os.getenv("BENCHMARK_HEADERS"):gmatch("[^\n]+") do
   local name, value = line:match("^([^:]+): (.*)$")
   wrk.headers[name] = value
end

function done(summary, latency, requests)
   local errors = summary.errors
   print(string.format(
      'figures {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
