"""Three small stages without a model: what Meshline does when nothing else takes time.

    python service.py            # or: mesh up -c mesh.toml

In: ``{"text": "hello mesh"}``. Out: ``{"text": "HELLO MESH", "words": 2}``.
"""

from __future__ import annotations

from mesh import Server, ValidationError, Worker


class Parse(Worker):
    """From the request to its words."""

    def forward(self, request: object) -> list[str]:
        text = request.get("text") if isinstance(request, dict) else None
        if not isinstance(text, str):
            raise ValidationError('send {"text": "some words"}')
        return text.split()


class Shout(Worker):
    """From words to louder words; takes up to 32 requests at a time."""

    def forward(self, requests: list[list[str]]) -> list[list[str]]:
        return [[word.upper() for word in words] for words in requests]


class Wrap(Worker):
    """From words to the answer."""

    def forward(self, words: list[str]) -> dict[str, object]:
        return {"text": " ".join(words), "words": len(words)}


if __name__ == "__main__":
    server = Server()
    server.append_worker(Parse)
    server.append_worker(Shout, max_batch_size=32, max_wait_time=5)
    server.append_worker(Wrap)
    server.run()
