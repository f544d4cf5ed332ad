# Meshline's commands; `make help` lists them, CONTRIBUTING.md explains them.
#
# Every environment lives in .venv. A stamp in it says which set of packages it holds, so that each
# command installs what it needs once, and again when the list of packages has changed.

PYTHON ?= python3
ROUNDS ?= 3
PEERS ?= mosec
ROWS ?=
RESULT ?= $(lastword $(sort $(wildcard benchmarks/measured/*-compare-*.json)))

VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/tools/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MODELS := $(wildcard examples/*/requirements*.txt)
UNIT := tests/unit benchmarks/tests/unit tests/test_architecture.py
# What measures rates and delays, or fills both processors, runs by itself; the rest two at a time.
ALONE := tests/faults benchmarks/tests/test_benchmarks.py $(addprefix tests/integration/test_,admission_service.py cancel.py gateway_processes.py obituaries.py overload.py pressure.py)
# Without compiled files every command compiles all of the tests again, which takes 8 s.
unexport PYTHONDONTWRITEBYTECODE
# A timeout shows the stacks, too: no thread for each test has to wait for that.
QUICK = $(BIN)/python -m pytest -q --no-header --hypothesis-profile=quick -p no:xdist -o faulthandler_timeout=0

.PHONY: help hello demo test test-compose check bench bench-scale pictures overload package clean
.DEFAULT_GOAL := help

help:
	@echo "make hello         start a service of ten lines, ask it, print the answer; PORT=8010 if 8000 is taken"
	@echo "make demo          serve real models, send them real images, print the answers"
	@echo "                   ONCE=1 stops afterwards; IMAGE=path.png reads another picture;"
	@echo "                   PORT=8010 if 8000 is taken"
	@echo "make test          the whole test-suite but for containers"
	@echo "make check         lint, types and unit tests, in less than half a minute"
	@echo "make bench         measure beside other servers; ROUNDS=3 PEERS=mosec|all ROWS=echo-1,array-8"
	@echo "make bench-scale   tails, batches, costs, arrays, starts, memory; ONLY=starts,memory"
	@echo "make calls         how many of our functions one request calls; FUNCTIONS=1 names them"
	@echo "make docs          the pages of settings and metrics, from what the code declares"
	@echo "make pictures      draw the last result of bench into docs/pictures"
	@echo "make overload      five times too much load for a minute: what is served, refused, used"
	@echo "make simulate      whole meshes under faults on a fake clock; N=2000 FIRST=0, or one: SEED=4711"
	@echo "make chaos         real faults on real processes, the long ones too; a table at the end"
	@echo "make soak          random faults for MINUTES=10: nothing lost, nothing grows"
	@echo "make mutants       break the code on purpose: which check of the simulation notices"
	@echo "make package       the wheel, into dist/"
	@echo "make lock          requirements.lock: what images install, pinned and hashed, made anew"
	@echo "make audit         whether a version in it is known to be vulnerable"
	@echo "make test-compose  the service in containers under load; needs a container engine"
	@echo "make clean         remove everything that these commands made"

hello: $(VENV)/mesh.stamp
	@$(BIN)/python examples/hello/demo.py $(if $(PORT),--port $(PORT))

demo: $(VENV)/examples.stamp
	@$(BIN)/python examples/ocr/demo.py $(if $(ONCE),--once) $(if $(IMAGE),--image "$(IMAGE)") $(if $(PORT),--port $(PORT))

test: $(VENV)/dev.stamp $(VENV)/examples.stamp $(VENV)/benchmarks.stamp
	$(BIN)/python tests/coverage_gate.py
	$(BIN)/python -m pytest -q --hypothesis-profile=thorough -n 2 $(UNIT)
	$(BIN)/python -m pytest -q --hypothesis-profile=thorough --dist loadfile -n 2 tests/conformance tests/field tests/integration tests/simulation $(ALONE:%=--ignore=%)
	$(BIN)/python -m pytest -q --hypothesis-profile=thorough tests/test_conftest.py tests/test_coverage_gate.py $(ALONE)

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q -m "" -o faulthandler_timeout=0 tests/faults

.PHONY: chaos soak
soak: $(VENV)/dev.stamp
	SOAK_MINUTES=$(or $(MINUTES),10) SOAK_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -q -m "" -o faulthandler_timeout=0 tests/faults/test_soak.py

test-compose: $(VENV)/dev.stamp $(VENV)/examples.stamp
	$(BIN)/python -m pytest -q tests/compose tests/integration/test_monitoring.py

check: $(VENV)/dev.stamp
	@$(MAKE) --no-print-directory --output-sync=target -j 5 check-style check-types check-processes check-mesh check-others

# Side by side: tests that start processes or open sockets mostly wait, and leave the processors to
# the others; each run collects only what it runs.
PROCESSES := tests/unit/mesh/test_*process*.py $(addprefix tests/unit/mesh/test_,exit_*.py supervision_*.py transport_*.py)
.PHONY: check-style check-types check-processes check-mesh check-others
check-style:
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
check-types:
	@$(BIN)/mypy --no-error-summary
check-processes:
	@$(QUICK) $(PROCESSES)
check-mesh:
	@$(QUICK) $(PROCESSES:%=--ignore-glob='%') --ignore-glob='tests/unit/mesh/test_w*.py' tests/unit/mesh
check-others:
	@$(QUICK) --ignore-glob='tests/unit/mesh/test_[!w]*.py' $(UNIT)

bench: $(VENV)/benchmarks.stamp
	@$(BIN)/python -m benchmarks.compare --rounds $(ROUNDS) --servers meshline,$(PEERS) --rows "$(ROWS)"

bench-scale: $(VENV)/benchmarks.stamp
	@$(BIN)/python -m benchmarks.scale $(if $(ONLY),--only "$(ONLY)")

.PHONY: calls docs
calls: $(VENV)/dev.stamp
	@$(BIN)/python -m benchmarks.calls $(if $(FUNCTIONS),--functions)

docs: $(VENV)/dev.stamp
	@$(BIN)/python docs/generate.py

pictures: $(VENV)/benchmarks.stamp
	@$(BIN)/python -m benchmarks.pictures "$(RESULT)" docs/pictures

overload: $(VENV)/dev.stamp
	OVERLOAD_SECONDS=60 $(BIN)/python -m pytest -q -s tests/integration/test_overload.py

.PHONY: simulate
simulate: $(VENV)/dev.stamp
	@$(BIN)/python tests/simulation/simulate.py -n $(or $(N),2000) --first $(or $(FIRST),0) $(if $(SEED),--seed $(SEED)) $(if $(PROFILE),--profile $(PROFILE))

.PHONY: mutants
mutants: $(VENV)/dev.stamp
	@$(BIN)/python tests/simulation/mutants.py $(if $(N),-n $(N)) $(if $(ONLY),--only "$(ONLY)")

# Of the public index alone, whatever else this machine's pip is told of: with the hashes of all
# files of each version, for every platform and version of Python that it has wheels for.
.PHONY: lock audit
lock: $(VENV)/tools.stamp
	@printf '# What images install. Made by `make lock` from pyproject.toml; do not edit.\n' > requirements.lock
	@PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= $(TOOLS)/pip-compile --quiet \
		--generate-hashes --extra ocr --all-build-deps --allow-unsafe --strip-extras --upgrade \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file - pyproject.toml >> requirements.lock

audit: $(VENV)/tools.stamp
	@$(BIN)/python tests/audit.py $(TOOLS)/pip-audit requirements.lock

package: $(VENV)/dev.stamp
	@rm -rf build
	@$(BIN)/python -m build --wheel --outdir dist .
	@rm -rf build

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment that is there but has no pip was left by a python3 without ensurepip.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Meshline needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip --version >/dev/null || { \
		rm -rf $(VENV); \
		echo "No virtual environment could be made. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/mesh.stamp: pyproject.toml | $(BIN)/python
	@echo "installing Meshline into $(VENV) ..." >&2
	@$(PIP) install -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	@echo "installing the development environment into $(VENV) ..." >&2
	@$(PIP) install -e '.[dev]'
	@touch $@

# In an environment of their own: they bring much that the product does not need.
$(VENV)/tools.stamp: | $(BIN)/python
	@echo "installing pip-tools and pip-audit into $(VENV)/tools ..." >&2
	@$(BIN)/python -m venv $(VENV)/tools
	@$(TOOLS)/python -m pip --disable-pip-version-check --quiet install 'pip-tools>=7.5,<8' 'pip-audit>=2.9,<3'
	@touch $@

$(VENV)/benchmarks.stamp: pyproject.toml | $(BIN)/python
	@echo "installing the benchmarks' environment into $(VENV) ..." >&2
	@$(PIP) install -e '.[benchmarks]'
	@touch $@

# The models travel in packages that declare far more than running them takes: hence --no-deps.
$(VENV)/examples.stamp: pyproject.toml $(MODELS) | $(BIN)/python
	@echo "installing the examples' environment and models into $(VENV) ..." >&2
	@$(PIP) install -e '.[examples]'
	@for list in $(MODELS); do $(PIP) install --no-deps --require-hashes -r $$list || exit 1; done
	@touch $@
