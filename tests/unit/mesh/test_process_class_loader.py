"""A user's class: described in one process, found again in another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from mesh.errors import SettingsError, StartError
from mesh.process.class_loader import (
    MAIN,
    describe,
    explain,
    from_text,
    is_replica,
    load,
    refuse_shadows,
)
from mesh.process.worker_source import WorkerSource
from mesh.worker.base import Worker

SCRIPT = """
import sys
from mesh import Worker
seen = __name__
class Embed(Worker):
    arguments = list(sys.argv)
    def forward(self, value):
        return value
class Plain:
    class Inner(Worker):
        def forward(self, value):
            return value
if __name__ == "__main__":
    raise SystemExit("the guard did not hold")
"""


class Here(Worker):
    def forward(self, value: object) -> object:
        return value


class Outer:
    class Inner(Worker):
        pass


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """This process as it was: what is imported, where from, and with which arguments."""
    modules, path, argv = dict(sys.modules), list(sys.path), list(sys.argv)
    yield
    sys.path[:], sys.argv[:] = path, argv
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def script(folder: Path, text: str = SCRIPT, name: str = "service.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# -- describing --------------------------------------------------------------------------------


def test_a_class_of_a_module() -> None:
    source = describe(Here)
    assert (source.module, source.qualname, source.file) == (__name__, "Here", "")
    assert describe(Outer.Inner).qualname == "Outer.Inner"
    assert all(Path(folder).is_absolute() for folder in source.sys_path)
    assert source.argv == tuple(sys.argv)
    assert load(source) is Here


def in_main(cls: type[Worker], **facts: object) -> type[Worker]:
    """The class as if a script had made it."""
    main = ModuleType("__main__")
    main.__dict__.update(facts, Here=cls)
    sys.modules["__main__"] = main
    cls.__module__ = "__main__"
    return cls


@pytest.fixture
def mine() -> type[Worker]:
    return type("Here", (Worker,), {})


def test_a_class_of_a_script(mine: type[Worker]) -> None:
    source = describe(in_main(mine, __file__=__file__))
    assert (source.file, source.module) == (__file__, "")


def test_a_class_of_a_module_that_was_run(mine: type[Worker]) -> None:
    spec = ModuleSpec("app.service", None)
    source = describe(in_main(mine, __spec__=spec, __file__="x"))
    assert (source.module, source.as_main) == ("app.service", True)


@pytest.mark.parametrize("facts", [{}, {"__file__": None}, {"__file__": "<stdin>"}])
def test_a_class_of_no_file(mine: type[Worker], facts: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"interactive session.*; put it into a file"):
        describe(in_main(mine, **facts))


def test_a_class_made_in_a_function() -> None:
    class Local(Worker):
        pass

    with pytest.raises(SettingsError, match="made inside a function.*top level of a module"):
        describe(Local)


def test_a_class_whose_name_means_another(mine: type[Worker]) -> None:
    mine.__module__ = __name__
    with pytest.raises(SettingsError, match="has another Here"):
        describe(mine)
    mine.__module__ = "never_imported"
    with pytest.raises(SettingsError, match="never_imported has another"):
        describe(mine)


def test_a_class_named_in_a_file() -> None:
    source = from_text("pkg.service:Embed", "/srv")
    assert source == WorkerSource("Embed", module="pkg.service", sys_path=("/srv",))
    source = from_text("app/service.py:Embed", "/srv")
    assert (source.file, source.sys_path) == ("/srv/app/service.py", ("/srv/app",))


@pytest.mark.parametrize("name", ["mesh.py", "gateway.py", "stage/__init__.py"])
def test_folders_with_a_module_of_our_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(SettingsError, match="bears the name of a package of Meshline"):
        refuse_shadows((str(tmp_path),))
    with pytest.raises(StartError, match="rename it"):
        load(WorkerSource("Embed", module="x", sys_path=(str(tmp_path),)))


def test_a_folder_of_files_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    refuse_shadows((str(tmp_path), *sys.path))


# -- loading -----------------------------------------------------------------------------------


def test_a_script_is_loaded_behind_its_guard(tmp_path: Path) -> None:
    file = str(script(tmp_path))
    found = load(WorkerSource("Embed", file=file, sys_path=(str(tmp_path),), argv=(file, "--x")))
    assert issubclass(found, Worker)
    assert found.__module__ == MAIN
    assert found.arguments == [file, "--x"]  # type: ignore[attr-defined]
    assert sys.modules["__main__"] is sys.modules[MAIN]
    assert sys.path[0] == str(tmp_path)
    assert not is_replica()


def test_a_module_that_was_run_is_loaded_behind_its_guard(tmp_path: Path) -> None:
    package = tmp_path / "shop_app"
    package.mkdir()
    script(package, "", "__init__.py")
    script(package, "WORD = 'hello'", "words.py")
    script(package, "from .words import WORD\n" + SCRIPT)
    source = WorkerSource(
        "Plain.Inner", module="shop_app.service", as_main=True, sys_path=(str(tmp_path),)
    )
    assert load(source).__module__ == MAIN
    assert sys.modules[MAIN].WORD == "hello"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (WorkerSource("Embde", module="service_one"), "no class Embde; did you mean Embed?"),
        (WorkerSource("Zzz", module="service_one"), "there is no class Zzz$"),
        (WorkerSource("Plain", module="service_one"), "is not a Worker; write class Plain"),
        (WorkerSource("seen", module="service_one"), "is not a Worker"),
        (WorkerSource("X", module="nowhere"), "No module named 'nowhere'$"),
        (WorkerSource("X", module="nowhere", as_main=True), "No module named 'nowhere'"),
        (WorkerSource("X", module="service_two"), r"named 'torhc' \(service_two.py:2\)"),
        (WorkerSource("X", module="service_three"), r"cannot be imported: SyntaxError"),
        (
            WorkerSource("X", module="service_four"),
            r"it called sys.exit\(5\) \(service_four.py:2\)",
        ),
        (WorkerSource("X", file="/no/such.py"), "No such file or directory"),
    ],
)
def test_what_cannot_be_loaded_says_why(source: WorkerSource, said: str, tmp_path: Path) -> None:
    script(tmp_path, SCRIPT, "service_one.py")
    script(tmp_path, "import os\nimport torhc", "service_two.py")
    script(tmp_path, "class X(", "service_three.py")
    script(tmp_path, "import sys\nsys.exit(5)", "service_four.py")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(StartError, match=said):
        load(source)
    assert not is_replica()


def test_what_was_raised_is_the_cause(tmp_path: Path) -> None:
    script(tmp_path, "raise ValueError('no model')", "service_five.py")
    with pytest.raises(StartError) as caught:
        load(WorkerSource("X", module="service_five", sys_path=(str(tmp_path),)))
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_without_a_place_of_the_users() -> None:
    assert explain(ValueError("x"), WorkerSource("X")) == "ValueError: x"


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    text = SCRIPT.partition("if __name__")[0]
    file = str(script(tmp_path, text + "from mesh import Server\nServer().run()\n"))
    with pytest.raises(StartError, match='put everything .* under   if __name__ == "__main__"'):
        load(WorkerSource("Embed", file=file))


def test_python_c_is_refused() -> None:
    code = (
        "from mesh import Server, Worker\nclass A(Worker):\n def forward(self, data): pass\n"
        "try: Server().append_worker(A)\nexcept Exception as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "put it into a file" in run.stdout
