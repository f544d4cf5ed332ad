"""Bodies as they are: given back, or made as long as they say."""

from mesh import Worker


class Raw(Worker):
    def deserialize(self, body):
        return body

    def forward(self, value):
        return value

    def serialize(self, value):
        return value


class Sized(Raw):
    """A body that is a number gets so many bytes."""

    def forward(self, body):
        return b"y" * int(body)


class Large(Raw):
    """The same, where an exclamation mark is before the number."""

    def forward(self, body):
        return bytes(int(body[1:])) if body[:1] == b"!" else body
