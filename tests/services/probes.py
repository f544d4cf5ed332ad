"""Prints the 99th percentile of 300 small requests, in seconds."""

import http.client
import sys
import time

client, took = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1])), []
for _ in range(300):
    began = time.monotonic()
    client.request("POST", "/echo", b"1")
    client.getresponse().read()
    took.append(time.monotonic() - began)
    time.sleep(0.002)
print(sorted(took)[296])
