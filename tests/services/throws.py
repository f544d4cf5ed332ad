"""Sends one body again and again for so many seconds; prints the statuses."""

import http.client
import sys
import time

end, told = time.monotonic() + float(sys.argv[3]), set()
body = sys.stdin.buffer.read()
client = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
while time.monotonic() < end or not told:
    client.request("POST", "/echo", body, {"content-encoding": sys.argv[2]})
    answer = client.getresponse()
    answer.read()
    told.add(answer.status)
print(*told)
