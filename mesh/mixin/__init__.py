"""Ready-made conversions to mix into a worker: ``class Embed(MsgpackMixin, Worker)``."""

from mesh.mixin.msgpack_worker import MsgpackMixin

__all__ = ["MsgpackMixin"]
