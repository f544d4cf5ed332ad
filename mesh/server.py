"""`Server`: a service described in a Python script, and run on this host.

The vocabulary, the arguments and their units are mosec's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mesh import log
from mesh.config.flags import ALL_STAGES, Flags, merge_http, parse_flags
from mesh.config.loader import warn
from mesh.config.schema import entries
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.config.sources import Draft
from mesh.errors import EXIT_NOT_STARTED, EXIT_SETTINGS, SettingsError, StartError
from mesh.process.class_loader import describe, is_replica
from mesh.process.streams import open_missing_streams
from mesh.process.worker_source import WorkerSource
from mesh.supervision.service import run

if TYPE_CHECKING:
    from mesh.worker.base import Worker

DEFAULT_ROUTE = "/inference"
_GUARD = (
    "a replica loads this script, too, and must not start the service again; "
    'put everything that does under   if __name__ == "__main__":'
)


_shown_before = sys.excepthook


@dataclass(eq=False)
class Runtime:
    """One stage: a worker and how its replicas run it. One that is given to several routes is
    shared by them.

    Attributes:
        worker: the class, a `Worker`, at the top level of a module or script.
        num: replicas, at least 1.
        max_batch_size: tasks that one ``forward`` takes; over 1 it gets and returns a list.
        max_wait_time: milliseconds that a batch may wait for more; 0 means the ``--wait`` value.
        timeout: seconds that one ``forward`` may take; 0 means the time that a request has.
        start_method: only ``"spawn"``.
        env: environment variables, one dict per replica, set before anything is imported.
    """

    worker: type[Worker]
    num: int = 1
    max_batch_size: int = 1
    max_wait_time: float = 0
    timeout: float = 0
    start_method: str = "spawn"
    env: Sequence[Mapping[str, str]] | None = None


class Server:
    """A service made of a script's own workers.

    It reads its own command-line flags (``--help`` lists them) and leaves other arguments alone.
    ``MESH_…`` environment variables name settings, too; flags win over them, they over the script.

    Example:
        ```python
        if __name__ == "__main__":
            server = Server()
            server.append_worker(Embed, num=2, max_batch_size=8, max_wait_time=10)
            server.run()
        ```
    """

    def __init__(self, argv: Sequence[str] | None = None) -> None:
        """Read the flags from `argv` (without the script's name), or the process's own.

        A wrong value and ``--help`` end the process, with exit codes 2 and 0. So does, with one
        line and exit code 2, a `SettingsError` that the script does not catch.
        """
        open_missing_streams()
        sys.excepthook = _say_plainly
        arguments = sys.argv[1:] if argv is None else argv
        self._flags = Flags() if is_replica() else parse_flags(arguments)
        self._draft = Draft()
        self._sources: dict[str, WorkerSource] = {}

    def append_worker(  # noqa: PLR0913 - a stage's settings, in mosec's order
        self,
        worker: type[Worker],
        num: int = 1,
        max_batch_size: int = 1,
        max_wait_time: float = 0,
        start_method: str = "spawn",
        env: Sequence[Mapping[str, str]] | None = None,
        timeout: float = 0,
        route: str | Sequence[str] = DEFAULT_ROUTE,
    ) -> None:
        """Add a stage at the end of a route's pipeline, or of several routes' that share it.

        Args:
            worker: the class, a `Worker`, at the top level of a module or script.
            num: replicas, at least 1.
            max_batch_size: tasks that one ``forward`` takes; over 1 it gets and returns a list.
            max_wait_time: milliseconds that a batch may wait for more; 0 means the ``--wait``
                value, 10 unless given.
            start_method: only ``"spawn"``.
            env: environment variables, one dict per replica, set before anything is imported.
            timeout: seconds that one ``forward`` may take; 0 means the time that a whole request
                has. Where ``--timeout`` is not given, that is twice what a route's stages may take
                by this, and 3 s at least.
            route: the HTTP path, or several.

        Raises:
            TypeError: `worker` is not a subclass of `Worker`.
            SettingsError: an argument's value is not possible, or the class could serve nothing (no
                `forward`, an ``async def``, a generator); the text says what to do.
        """
        runtime = Runtime(worker, num, max_batch_size, max_wait_time, timeout, start_method, env)
        name = self._add(runtime)
        for path in [route] if isinstance(route, str) else route:
            self._draft.routes[path] = (*self._draft.routes.get(path, ()), name)

    def register_runtime(self, routes: Mapping[str, Sequence[Runtime]]) -> None:
        """Describe every route's pipeline at once; a `Runtime` that stands in several is shared.

        Raises:
            SettingsError: a worker was added before, or an argument's value is not possible.
        """
        if self._sources:
            raise SettingsError("register_runtime describes the whole service; use it alone")
        names: dict[int, str] = {}
        for path, runtimes in routes.items():
            for runtime in runtimes:
                if id(runtime) not in names:
                    names[id(runtime)] = self._add(runtime)
            self._draft.routes[path] = tuple(names[id(runtime)] for runtime in runtimes)

    def run(self) -> None:
        """Start everything, serve until Ctrl-C or SIGTERM, and end everything in order.

        Raises:
            StartError: called while a replica loads the script: the ``__main__`` guard is missing.
            SystemExit: the service ended otherwise than in order: with 2 if its settings are
                wrong, 3 if it could not be started, 1 if something had to be killed.
        """
        if is_replica():
            raise StartError(_GUARD)
        open_missing_streams()  # the script may have closed some since
        log.configure("info", "server")
        try:
            flags = self._flags
            code = run(self._settings(), self._sources, base=flags.path, dry_run=flags.dry_run)
        except (SettingsError, StartError) as error:
            log.get_logger().error("%s", error)
            code = EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_NOT_STARTED
        if code:
            raise SystemExit(code)

    def _settings(self) -> MeshSettings:
        """The complete settings: the script's, then the environment's, then the flags'."""
        if not self._sources:
            raise SettingsError("there is nothing to serve; call append_worker before run")
        draft, flags = self._draft, self._flags
        warnings = [*flags.warnings, *draft.add_environment(os.environ)]
        for (table, key), (value, flag) in flags.values.items():
            stages = [f"stages.{name}" for name in draft.stages]
            for one in stages if table == ALL_STAGES else [table]:
                draft.add(one, key, value, flag)
        if flags.address is not None or flags.port is not None:
            plain = entries(GatewaySettings)["http"].default
            http = merge_http(draft.values.get(("gateway", "http"), plain), flags)
            draft.add_text("gateway", "http", http, "--address, --port")
        settings = draft.build()
        log.configure(settings.log_level, "server", form=settings.log_format)
        log.print_without_waiting()
        warn([*warnings, *settings.warnings()])
        return settings

    def _add(self, runtime: Runtime) -> str:
        """Add a stage; returns its name."""
        _check_worker(runtime)
        name = self._free_name(runtime.worker)
        table = self._draft.add_stage(name)
        source = describe(runtime.worker)
        for key, value in {**_values(runtime, self._flags.wait), "worker": str(source)}.items():
            self._draft.add(table, key, value, f"append_worker({runtime.worker.__name__})")
        self._sources[name] = source
        return name

    def _free_name(self, worker: type[Worker]) -> str:
        """The class's name in snake case; the second of that name gets a number."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", worker.__name__)
        name = words.lower().strip("_")
        taken = sum(
            re.fullmatch(rf"{re.escape(name)}(-\d+)?", one) is not None for one in self._sources
        )
        return f"{name}-{taken + 1}" if taken else name


def _say_plainly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What `sys.excepthook` is while a script describes a service: a wrong setting is the script's
    own mistake, said in one line; anything else is shown as before."""
    if not isinstance(error, SettingsError):
        _shown_before(kind, error, trace)
        return
    log.configure("info", "server")
    log.get_logger().error("%s", error)
    raise SystemExit(EXIT_SETTINGS)  # from here it sets the exit code, and is not shown


def _check_worker(runtime: Runtime) -> None:
    from mesh.worker.base import Worker
    from mesh.worker.checks import class_fault

    if not isinstance(runtime.worker, type) or not issubclass(runtime.worker, Worker):
        raise TypeError(f"worker must be a subclass of mesh.Worker, not {runtime.worker!r}")
    fault = class_fault(runtime.worker)
    if fault:
        raise SettingsError(fault)
    if runtime.start_method != "spawn":
        text = f'start_method must be "spawn", not {runtime.start_method!r}'
        raise SettingsError(
            f"{text}; a forked replica would share its parent's threads and sockets"
        )
    if runtime.num == 0:
        raise SettingsError("num must be at least 1, not 0")


def _values(runtime: Runtime, default_wait: float) -> dict[str, Any]:
    """A stage's settings by their names in the schema, checked and in our units."""
    given: dict[str, tuple[str, object]] = {
        "num": ("replicas", runtime.num),
        "max_batch_size": ("max_batch_size", runtime.max_batch_size),
        "max_wait_time": ("max_wait_time", _seconds(runtime.max_wait_time or default_wait)),
        "timeout": ("timeout", runtime.timeout or None),
        "env": ("env", runtime.env or ()),
    }
    kinds = entries(StageSettings)
    values: dict[str, Any] = {}
    for argument, (key, value) in given.items():
        try:
            values[key] = None if value is None else kinds[key].kind.check(value)
        except ValueError as error:
            raise SettingsError(f"{argument} {error}") from None
    return values


def _seconds(milliseconds: object) -> float:
    if isinstance(milliseconds, int | float) and milliseconds >= 0:
        return milliseconds / 1000
    text = f"max_wait_time must be a number of milliseconds, 0 or more, not {milliseconds!r}"
    raise SettingsError(text)
