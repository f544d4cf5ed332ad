"""What a model of the benchmarks does, for Triton's Python backend."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy
import triton_python_backend_utils as triton

FLOATS_PER_MEGABYTE = 1 << 18


class TritonPythonModel:
    """One of four kinds: ``echo``, ``sleep``, ``make``, ``sum``."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the configuration says."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.kind = parameters["kind"]["string_value"]
        self.number = int(parameters["number"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One batch: Triton hands over a list of requests."""
        if self.kind == "sleep":
            time.sleep(0.010)
        return [self._answer(triton.get_input_tensor_by_name(each, "x")) for each in requests]

    def _answer(self, given: Any) -> Any:
        values = given.as_numpy()
        if self.kind == "make":
            value = float(values.tobytes())
            size = (1, self.number * FLOATS_PER_MEGABYTE)
            values = numpy.full(size, value, numpy.float32)
        elif self.kind == "sum":
            whole = str(float(values.sum(dtype="float64"))).encode()
            values = numpy.frombuffer(whole, numpy.uint8).reshape(1, -1)
        return triton.InferenceResponse(output_tensors=[triton.Tensor("y", values)])
