"""The services of the benchmarks for NVIDIA Triton: the server in the `nvidia-pytriton` wheel.

Writes a model repository for the service that `BENCHMARK_SERVICE` names, with models of the Python
backend, and becomes `tritonserver`. The port follows on the command line.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

NAME, _, _NUMBER = os.environ["BENCHMARK_SERVICE"].partition(":")
NUMBER = int(_NUMBER or 1)
CODE = Path(__file__).with_name("triton_model.py")

MODEL = """
backend: "python"
max_batch_size: {batch}
input [ {{ name: "x" data_type: {takes} dims: [ {size} ] }} ]
output [ {{ name: "y" data_type: {gives} dims: [ {out} ] }} ]
instance_group [ {{ count: {count} kind: KIND_CPU }} ]
parameters: {{ key: "kind" value: {{ string_value: "{kind}" }} }}
parameters: {{ key: "number" value: {{ string_value: "{number}" }} }}
{extra}
"""
BATCHING = "dynamic_batching {{ max_queue_delay_microseconds: 5000 }}"
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 1
input [ {{ name: "x" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
output [ {{ name: "y" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
ensemble_scheduling {{ step [
  {{ model_name: "first" model_version: -1
    input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "between" }} }},
  {{ model_name: "second" model_version: -1
    input_map {{ key: "x" value: "between" }} output_map {{ key: "y" value: "y" }} }}
] }}
"""


def model(kind: str, *, batch: int = 1, count: int = 1) -> str:
    """The configuration of a model of `triton_model.py`."""
    text, floats = ("TYPE_UINT8", -1), ("TYPE_FP32", -1)
    takes, gives = (floats if kind == "sum" else text), (floats if kind == "make" else text)
    return MODEL.format(
        batch=batch,
        takes=takes[0],
        size=takes[1],
        gives=gives[0],
        out=gives[1],
        count=count,
        kind=kind,
        number=NUMBER,
        extra=BATCHING.format() if batch > 1 else "",
    )


def models() -> dict[str, str]:
    """The configurations of a service's models; requests go to the one called ``service``."""
    if NAME == "array":
        return {"service": ENSEMBLE.format(), "first": model("make"), "second": model("sum")}
    if NAME == "echo" and NUMBER == 2:
        return {"service": ENSEMBLE.format(), "first": model("echo"), "second": model("echo")}
    if NAME == "sleep":
        return {"service": model("sleep", batch=8, count=NUMBER)}
    return {"service": model("echo", batch=32 if NAME == "echo_batched" else 1)}


def repository(folder: Path) -> Path:
    """Write the models into a folder."""
    for name, configuration in models().items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(configuration)
        if name != "service" or "python" in configuration:
            shutil.copy(CODE, folder / name / "1" / "model.py")
    return folder


def main() -> None:
    """Become the server."""
    found = importlib.util.find_spec("pytriton")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(package / "tritonserver" / "backends", folder / "backends")
    stub = f"{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    shutil.copy(
        package / "tritonserver" / "python_backend_stubs" / stub, folder / "backends" / "python"
    )
    (folder / "models").mkdir()
    libraries = package.parent / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")
    # The interpreter that it embeds finds its packages by the first python3 in PATH.
    names = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    binary = str(package / "tritonserver" / "bin" / "tritonserver")
    flags = [
        f"--model-repository={repository(folder / 'models')}",
        f"--backend-directory={folder / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={sys.argv[1]}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=2",
    ]
    os.execve(binary, [binary, *flags], os.environ | names)


if __name__ == "__main__":
    main()
