from gateway.web.http_request import CLOSE, KEEP, with_connection


def test_the_connection_header_comes_first() -> None:
    answer = b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"
    assert with_connection(answer, CLOSE).split(b"\r\n")[1] == b"Connection: close"
    assert with_connection(answer, KEEP).split(b"\r\n")[1:3] == [b"Connection: keep-alive", b"A: b"]
