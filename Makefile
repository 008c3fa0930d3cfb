# Nothing is needed but Python 3.11 or later and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: help run test lint types tests coverage benchmark clean

help: ## Say what there is.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/installed ## Initialise a ResNeXt-29, print its audit, write weights and report to build/.
	@mkdir -p build
	$(BIN)/initplug apply examples/models/resnext.py:resnext29 resnext --seed 0 \
	    --out build/resnext29.safetensors --report build/audit.json

test: lint types tests ## Check style and types, run every test.

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-tests
	$(BIN)/mypy

tests: $(VENV)/installed-tests
	$(BIN)/pytest -n 2

coverage: $(VENV)/installed-tests ## Measure which lines and branches the tests run.
	$(BIN)/pytest -n 2 --cov --cov-report=term-missing

benchmark: $(VENV)/installed-tests ## Time the matcher beside loops over regular expressions, seeds beside torch.nn.init, shards beside the whole.
	$(BIN)/python tests/benchmarks/matching.py
	$(BIN)/python tests/benchmarks/streams.py --small
	$(BIN)/python tests/benchmarks/sharded.py --small

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

# Third-party models come without their dependencies, since those would bring another torch, with CUDA.
$(VENV)/installed-tests: $(VENV)/installed tests/conformance/requirements.txt
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	$(PIP) install --no-deps --requirement tests/conformance/requirements.txt
	@touch $@

clean: ## Remove everything that was made.
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
