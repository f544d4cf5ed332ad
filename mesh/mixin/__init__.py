"""Ready-made conversions to mix into a worker: ``class Embed(MsgpackMixin, Worker)``."""

from mesh.worker.mixins import MsgpackMixin

__all__ = ["MsgpackMixin"]
