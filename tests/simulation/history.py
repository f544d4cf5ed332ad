"""One history: from a seed to a verdict."""

from dataclasses import replace

import crowd
import pytest
from checks import AFTERWARDS, given_up, prompt, unrest
from faults import draw_history, heal, plan
from world import Broken, World

SMALL = 64  # bytes: what small histories make of a slice
PAYLOAD_S = 4.0  # that a payload may take to come, where some do not come
SPARE = 6.0  # attempts: what a storm has at hand
QUIET = 30.0  # seconds within which everything is at rest again; gateways are awaited for ten


def play(seed, profile=None, story=None):
    """Play a history to its end.

    Args:
        seed: of everything in it.
        profile: which faults it has, None to draw that, too.
        story: a list that takes lines for people.

    Returns:
        The world at its end; `log` is the hash of all that happened.

    Raises:
        Broken: a promise was not kept.
    """
    draw = draw_history(seed, profile)
    with Patches(draw):
        world = World(draw, story)
        plan(world)
        world.tell(f"{draw}")
        _run(world)
        # Faults hit other links where there are more, and slow forwards other requests: then the
        # two histories say nothing of each other.
        chancy = draw.faults or any(stage.slow for stage in draw.stages)
        if draw.profile == "hostile" and not chancy:
            prompt(world, _without_hostile(draw))
    return world


def _without_hostile(draw):
    """The same history, of whose members all keep the rules."""
    twin = World(replace(draw, hostile=[], hoarders=[]))
    plan(twin)
    _run(twin)
    return twin


def _run(world):
    try:
        _run_to_its_end(world)
    except Broken:
        raise
    except Exception as error:
        raise Broken("no crash", f"{type(error).__name__}: {error}") from error


def _run_to_its_end(world):
    world.run(1.8)  # until the last request is there
    slept = max(
        getattr(gateway, "slept", 0.0) for gateway in (*world.past, *world.gateways) if gateway
    )
    world.run(5.0 + slept, lambda: _all_answered(world))
    for check in AFTERWARDS:
        check(world)
    if world.draw.hoarders:
        world.tire()
        world.run(PAYLOAD_S + 1.0)
        given_up(world)
    heal(world)
    rest = world.run(QUIET, Every(world, 0.25, lambda: not unrest(world)))
    if not rest:
        raise Broken("quiet", unrest(world))
    for check in AFTERWARDS:
        check(world)


class Every:
    """Asks only now and then: looking everywhere takes longer than a turn."""

    def __init__(self, world, seconds, question):
        self.world, self.seconds, self.question = world, seconds, question
        self.next = world.now + seconds

    def __call__(self):
        if self.world.now < self.next:
            return False
        self.next = self.world.now + self.seconds
        return self.question()


def _all_answered(world):
    return all(
        asked.answers or asked.left_at < world.now or asked.gateway in world.past
        for asked in world.asked.values()
    )


class Patches:
    """What a history has of its own: small slices, or a small budget of attempts."""

    def __init__(self, draw):
        self.draw = draw
        self.patch = pytest.MonkeyPatch()

    def __enter__(self):
        if self.draw.small_parts:  # many cuts fall within a transfer
            self._small_parts(self.patch.setattr)
        if self.draw.profile == "hostile":
            self.patch.setattr("gateway.requests.replicas.MAX_PEERS", crowd.MOST_PEERS)
            self.patch.setattr("mesh.protocol.permissions.MAX_PEERS", crowd.MOST_PEERS)
            sources = "mesh.links.handshake.MOST_FROM_ONE_SOURCE"
            self.patch.setattr(sources, crowd.MOST_FROM_ONE_SOURCE)
        if self.draw.hoarders:
            self.patch.setattr("mesh.protocol.chunking.LEAST_CHARGED_BYTES", SMALL)
            self.patch.setattr("mesh.links.heartbeat.LEAST_PAYLOAD_S", PAYLOAD_S)
            self.patch.setattr("mesh.links.heartbeat.MOST_PAYLOAD_S", PAYLOAD_S)
        if self.draw.profile == "storm":
            self.patch.setattr("gateway.requests.retries.LEAST_BUDGET", SPARE)

    def __exit__(self, *_):
        self.patch.undo()

    def _small_parts(self, put):
        for module in ("protocol.chunking", "links.stream", "links.dispatcher"):
            put(f"mesh.{module}.PART_BYTES", SMALL)
        put("mesh.protocol.chunking.INLINE_BYTES", SMALL // 4)
        put("mesh.protocol.chunking.MAX_CHUNK_BYTES", 3 * SMALL)
        put("mesh.links.large_messages.MAX_UNACKED_BYTES", 8 * SMALL)
        put("mesh.links.stream.ACK_AFTER_BYTES", 2 * SMALL)
