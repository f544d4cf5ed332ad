"""What is remembered of replicas that are gone."""

from gateway.requests.departed import MAX_DEPARTED, Departed, ReplicaOrigin, origin_of
from mesh.links.session import Session
from mesh.protocol.messages import Role, StageFacts


def replica(peer, stage="a"):
    session = Session(1, peer, Role.REPLICA, 0)
    session.stage = StageFacts(stage, "r", 4, 3.0, 1 << 20)
    session.host, session.pid, session.parent = "gpu-1", 812, 77
    return session


def test_where_a_replica_ran_is_remembered():
    departed = Departed()
    departed.add(replica(0xBEE))
    assert departed.get(0xBEE) == ReplicaOrigin("a", 77, "0000000000000bee (gpu-1, pid 812)")
    assert departed.get(7) is None
    assert origin_of(Session(1, 3, Role.SUPERVISOR, 0)).stage == ""


def test_the_last_of_them_are_remembered():
    departed = Departed()
    for peer in (1, 2):
        departed.add(replica(peer))
    departed.add(replica(1))  # it was not gone at all, and is now
    for peer in range(100, 100 + MAX_DEPARTED - 1):
        departed.add(replica(peer))
    assert len(departed) == MAX_DEPARTED
    assert departed.get(1)
    assert departed.get(2) is None


def test_what_was_said_first_of_a_number_stays():
    """Who takes the number of one that is gone has neither its supervisor nor its stage."""
    departed = Departed()
    departed.add(replica(5))
    impostor = replica(5, stage="b")
    impostor.parent = 666
    assert departed.origin(impostor).parent == 77
    departed.add(impostor)
    assert (
        departed.get(5)
        == departed.origin(impostor)
        == ReplicaOrigin("a", 77, "0000000000000005 (gpu-1, pid 812)")
    )
    assert departed.origin(replica(6)).parent == 77
