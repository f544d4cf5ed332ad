"""Finds and imports the class that a script or a mesh.toml names.

`describe` and `from_text` run in the parent and make a `WorkerSource`; `load` runs in the replica,
a fresh interpreter that shares nothing with the parent. It loads a script as ``__mp_main__``, the
name that Python's own multiprocessing uses, so ``if __name__ == "__main__":`` guards work.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.abc import InspectLoader
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mesh.config.schema import nearest
from mesh.errors import SettingsError, StartError
from mesh.logs.failure_text import line_and_place
from mesh.process.worker_source import WorkerSource

if TYPE_CHECKING:
    from mesh.worker.base import Worker

MAIN = "__mp_main__"
OURS = ("mesh", "gateway", "stage")
_HOME = Path(__file__).resolve().parents[2]
_loading = False


def is_replica() -> bool:
    """Return whether this process is a replica that is loading a user's code."""
    return _loading


def describe(worker: type[Any]) -> WorkerSource:
    """Return where another process finds a class of this process.

    Raises:
        SettingsError: another process cannot find it: the class was made inside a function, in an
            interactive session, or by ``python -c``. The text says what to do instead.
    """
    name = worker.__qualname__
    if "<locals>" in name:
        text = f"{name} is made inside a function, where no other process can find it"
        raise SettingsError(f"{text}; put the class at the top level of a module")
    module = sys.modules.get(worker.__module__)
    if module is None or _find(module, name) is not worker:
        text = f"{worker.__module__} has another {name} than the class that was given"
        raise SettingsError(f"{text}; give each class a name of its own at the top level")
    folders = tuple(os.path.abspath(folder) for folder in sys.path)
    refuse_shadows(folders)
    place = _place(module, name)
    return WorkerSource(qualname=name, sys_path=folders, argv=tuple(sys.argv), **place)


def from_text(text: str, folder: str) -> WorkerSource:
    """Return where a replica finds ``module:Class`` or ``file.py:Class``, relative to a folder.

    Example:
        >>> from_text("service:Embed", "/srv/app").sys_path
        ('/srv/app',)
    """
    place, _, qualname = text.rpartition(":")
    absolute = os.path.abspath(folder)
    if place.endswith(".py"):
        file = os.path.join(absolute, place)
        return WorkerSource(qualname, file=file, sys_path=(os.path.dirname(file),), argv=(file,))
    return WorkerSource(qualname, module=place, sys_path=(absolute,))


def load(source: WorkerSource) -> type[Worker]:
    """Import a user's class; `sys.path` and `sys.argv` of this process become the script's.

    Our own modules must be imported before: the user's folders come first in `sys.path`.

    Raises:
        StartError: the module cannot be imported (its exception is the cause), it has no such
            class, or the class is not a `Worker` that can serve.
    """
    from mesh.worker.base import Worker
    from mesh.worker.checks import class_fault

    _enter(source)
    module = _import(source)
    found = _find(module, source.qualname)
    if found is None:
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        meant = nearest(source.qualname, classes)
        hint = f"; did you mean {meant}?" if meant else ""
        raise StartError(f"{source}: there is no class {source.qualname}{hint}")
    if not isinstance(found, type) or not issubclass(found, Worker):
        raise StartError(f"{source} is not a Worker; write class {source.qualname}(mesh.Worker)")
    fault = class_fault(found)
    if fault:
        raise StartError(fault)
    return found


def refuse_shadows(folders: tuple[str, ...]) -> None:
    """Refuse folders that contain a module with the name of one of our packages.

    Imports would find the user's module in place of ours, or the other way round.

    Raises:
        SettingsError: the text names the file to rename.
    """
    for folder in folders:
        for name in OURS:
            for path in (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py")):
                if path.exists() and not path.resolve().is_relative_to(_HOME):
                    text = f"{path} bears the name of a package of Meshline, which would be mixed"
                    raise SettingsError(f"{text} up with it; rename it")


def explain(error: BaseException, source: WorkerSource) -> str:
    """Describe an exception of a user's code in one line: what it was, and where in that code."""
    return line_and_place(error, (*source.sys_path, os.path.dirname(source.file)))


def _place(module: ModuleType, name: str) -> dict[str, Any]:
    """Return the fields of `WorkerSource` for the module or file of a class."""
    if module.__name__ != "__main__":
        return {"module": module.__name__}
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return {"module": spec.name, "as_main": True}
    file = getattr(module, "__file__", None)
    if not file or not os.path.isfile(file):
        text = f"{name} was made in an interactive session, a notebook or by python -c"
        raise SettingsError(f"{text}, where no other process can find it; put it into a file")
    return {"file": os.path.abspath(file)}


def _enter(source: WorkerSource) -> None:
    """Give this process the script's arguments, and put its folders first in `sys.path`."""
    try:
        refuse_shadows(source.sys_path)
    except SettingsError as error:
        raise StartError(str(error)) from None
    sys.path[:] = [*source.sys_path, *(one for one in sys.path if one not in source.sys_path)]
    if source.argv:
        sys.argv[:] = source.argv


def _import(source: WorkerSource) -> ModuleType:
    global _loading
    _loading = True
    try:
        if source.file or source.as_main:
            return _run_as_main(source)
        return importlib.import_module(source.module)
    except StartError:
        raise
    except BaseException as error:
        raise StartError(f"{source} cannot be imported: {explain(error, source)}") from error
    finally:
        _loading = False


def _run_as_main(source: WorkerSource) -> ModuleType:
    """Load a script, or a module that ``python -m`` ran, under a name that is not ``__main__``."""
    if source.file:
        loader: Any = SourceFileLoader(MAIN, source.file)
        spec, code = None, loader.get_code(MAIN)
    else:
        spec = importlib.util.find_spec(source.module)
        if spec is None or not isinstance(spec.loader, InspectLoader):
            raise ModuleNotFoundError(f"No module named {source.module!r}")
        code = spec.loader.get_code(source.module)
    module = ModuleType(MAIN)
    module.__spec__ = spec
    module.__package__ = spec.parent if spec else None
    module.__file__ = source.file or (spec.origin if spec else None)
    # As in multiprocessing: `__main__` of the script is this module here.
    sys.modules[MAIN] = sys.modules["__main__"] = module
    exec(code, module.__dict__)  # the user's own code, which the parent process runs, too
    return module


def _find(module: ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
