"""The one tree of exceptions: what went wrong, whose fault it was, whether a retry may help. Pure.

```
MeshError
├── ClientError            the request is at fault          (400)
│   ├── DecodingError      its payload does not decode      (400)
│   └── ValidationError    it decodes but is not acceptable (422)
├── ServerError            the service is at fault          (500)
│   └── EncodingError      a result does not encode         (500)
├── ProtocolError          a peer sent bytes that mean nothing
├── SettingsError          a setting is wrong: where, and what to write instead
└── StartError             a process or worker could not be started, and why
ForwardTimeout             raised inside a ``forward`` that outlives its stage's timeout
```

The status code that a client sees is decided in one table, `gateway/web/responses.py`, by `code`. A
subclass of `ClientError` or `ServerError` may have a code and a status of its own.
"""

# Every code that the table knows; `tests/unit/gateway/test_web_responses.py` keeps the two
# together.
CODES = frozenset(
    """
    bad_request decoding_error not_found method_not_allowed request_timeout body_too_large
    cross_site host_not_served unsupported_encoding expectation_failed validation_error
    headers_too_large coding_not_implemented version_not_supported overloaded
    cannot_meet_deadline no_replica
    draining too_many_connections server_error encoding_error poison_request lost
    deadline_exceeded forward_timeout client_gone
    """.split()
)

# Exit codes of services and of the command `mesh`.
EXIT_OK = 0
EXIT_FORCED = 1
EXIT_SETTINGS = 2
EXIT_NOT_STARTED = 3


class MeshError(Exception):
    """Base of all errors that Meshline raises or understands.

    Attributes:
        code: the word that the error's JSON answer carries.
        retryable: whether sending the same request again may succeed.
        status, stage, request_id: where a `Client` raises it, what the error's answer said
            besides: its HTTP status, the stage that failed, the request's id.
        retry_after: seconds after which that answer advises another try, if it does.
        traceback: of the worker's exception, where the service runs with ``--debug``.
    """

    code = "server_error"
    retryable = False
    status = 0
    stage = ""
    request_id = ""
    traceback = ""
    retry_after: float | None = None


class ClientError(MeshError):
    """Raise it in a worker when the request itself is at fault; its sender receives 400.

    A subclass may set a `code` of its own, a `status` from 400 to 499, and `retry_after`:

    ```python
    class QuotaExceeded(ClientError):
        code, status, retry_after = "quota_exceeded", 429, 60
    ```

    Example:
        >>> raise ClientError("the image is larger than 4096 × 4096")
        Traceback (most recent call last):
        ...
        mesh.errors.ClientError: the image is larger than 4096 × 4096
    """

    code = "bad_request"


class DecodingError(ClientError):
    """A payload that `Worker.deserialize` could not read; its sender receives 400."""

    code = "decoding_error"


class ValidationError(ClientError):
    """A payload that was read but is not acceptable; its sender receives 422."""

    code = "validation_error"


class ServerError(MeshError):
    """Raise it in a worker when the service is at fault; the request's sender receives 500.

    A subclass may set a `code` of its own, a `status` from 500 to 599, and `retry_after`.
    """

    code = "server_error"


class EncodingError(ServerError):
    """A result that `Worker.serialize` could not write; the request's sender receives 500."""

    code = "encoding_error"


class ProtocolError(MeshError):
    """Frames that are no message of ours. Decoding raises this and nothing else."""

    code = "protocol_error"


class SettingsError(MeshError):
    """A setting that is wrong. The text names the file, table, key and line, and the way out."""

    code = "settings_error"


class StartError(MeshError):
    """A process or a worker that could not be started. The text says why, once."""

    code = "start_error"


class ForwardTimeout(BaseException):  # not an error for the user's code to catch
    """Raised inside `Worker.forward` when it outlives its stage's `timeout`.

    Not an `Exception`, so that a worker's own ``except Exception`` does not swallow it.
    """
