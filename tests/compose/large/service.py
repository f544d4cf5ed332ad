"""Bodies as large as they may be: the first stage hands on what it got, the second reads it all."""

import hashlib

from mesh import Worker


class Pass(Worker):
    def deserialize(self, payload):
        return bytes(payload)

    def forward(self, body):
        return body


class Digest(Worker):
    def forward(self, body):
        return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
