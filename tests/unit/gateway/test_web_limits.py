from gateway.web.limits import BODY_BYTES_PER_S, BODY_STEP_BYTES, Limits


def test_a_body_of_the_largest_size_may_take_longer_than_the_least_timeout() -> None:
    limits = Limits()
    assert limits.max_body / BODY_BYTES_PER_S > limits.body_timeout
    assert limits.max_header >= BODY_STEP_BYTES
