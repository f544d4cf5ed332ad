"""Who has how many unfinished bodies."""

from gateway.web.uploads import Uploads, client_of


def test_each_client_has_its_own_count() -> None:
    uploads = Uploads(2)
    assert [uploads.begin("a"), uploads.begin("a"), uploads.begin("a")] == [True, True, False]
    assert uploads.begin("b")
    uploads.end("a")
    assert [uploads.begin("a"), uploads.begin("a")] == [True, False]
    for client in ("a", "a", "b"):
        uploads.end(client)
    assert not uploads._counts


def test_an_ipv6_network_is_one_client() -> None:
    assert client_of("2001:db8:1:2:3:4:5:6") == client_of("2001:db8:1:2::1")
    assert client_of("2001:db8:1:2::1") != client_of("2001:db8:1:3::1")
    assert client_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert client_of("10.0.0.1") == "10.0.0.1"
    assert client_of("unix") == "unix"


def test_a_slow_body_counts_for_whom_its_address_belongs_to() -> None:
    uploads = Uploads(1)
    assert uploads.count("2001:db8::1") == "2001:db8::"
    assert uploads.count("2001:db8::2") == ""
    uploads.end("2001:db8::")
    assert not uploads._counts
