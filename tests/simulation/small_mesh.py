"""A mesh of a few members that a test arranges by hand, on a clock that nobody waits for."""

import random
from itertools import count

from members import Gateway, Mesh, Rep

from mesh.transport.memory import FakeClock, MemoryNetwork

DELAY = 0.0002  # seconds that a multipart travels


class SmallMesh(Mesh):
    """All of them.

    Args:
        stages: names of the one route's stages, in order.
        timeout: seconds that a request lives.
        gateways: how many.
    """

    listens = True

    def __init__(self, *stages, timeout=3.0, gateways=1, attempts=3, seed=1):
        clock = FakeClock(100.0)
        super().__init__(clock, MemoryNetwork(clock, seed, DELAY), random.Random(seed))
        self._order = count()
        self.hops = tuple((name, "r") for name in stages)
        self.addresses = [f"tcp://gateway:{n}" for n in range(gateways)]
        routes = {"/inference": self.hops}
        self.gateways = [
            self.join(Gateway(self, address, routes, timeout, attempts))
            for address in self.addresses
        ]
        self.gateway = self.gateways[0]

    def replica(self, name, gateways=None, feed=True, **how):
        """Start a replica; it dials all gateways unless told otherwise."""
        address = f"tcp://{name}:{next(self._order)}" if feed else ""
        return self.join(Rep(self, (name, "r"), gateways or self.addresses, address, **how))

    def settle(self):
        """Let everybody meet everybody."""
        self.run(1.0)
        return self

    def answered(self, *numbers, gateway=None, within=10.0):
        """Run until these requests have their answers; returns the answers."""
        answers = (gateway or self.gateway).answers
        assert self.run(within, lambda: all(n in answers for n in numbers)), "not answered"
        return [answers[n] for n in numbers]
