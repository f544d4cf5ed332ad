"""The two stages of docs/deploy.md."""

from mesh import Worker


class Decode(Worker):
    def forward(self, text):
        return text.upper()


class Detect(Worker):
    def forward(self, text):
        return {"found": text}
