# Nothing is needed but Python 3.11 or later and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: help run test quick lint types tests compat floors pythons dist wheels fuzz browser conformance presets-table \
    presets-coverage recordings inferences reference docs cookbook peers screenshots coverage gates benchmark verdicts \
    coordinates picture clean

help: ## Say what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/installed ## Initialise a ResNeXt-29, print its audit, write weights and the page to build/.
	@mkdir -p build
	$(BIN)/initplug apply examples/models/resnext.py:resnext29 resnext --seed 0 \
	    --out build/resnext29.safetensors --report build/audit.html

test: lint types tests ## Check style and types, run every test.

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/installed-tests
	$(BIN)/mypy

# The plugin says how many inputs of each kind were tried.
tests: $(VENV)/installed-tests
	PYTHONPATH=tests/fuzz $(BIN)/pytest -n 2 -p fuzz_summary

# Left out: models of others, browser, ranks, killed processes, fuzzers, torch.compile; packages that are installed, texts
# of a megabyte, trees of thousands of modules. What is left takes some 90 seconds of processors.
QUICK := tests/language tests/schemes tests/planning tests/tables tests/test_architecture.py tests/test_columns.py \
    tests/test_judging.py tests/test_regions.py tests/test_values.py initplug
SLOW := schemes/test_installed_initializers language/test_bounds planning/test_deep_trees planning/test_wrappers \
    planning/test_wrapped_trees

quick: $(VENV)/installed-tests ## Run what takes less than a minute.
	$(BIN)/pytest -n 2 $(QUICK) $(SLOW:%=--ignore=tests/%.py)

compat: $(BIN)/python ## Run the suite on each torch that is supported; VERSIONS="2.4.1 2.9.1" for some of them.
	$(BIN)/python tests/compatibility/versions.py torch $(VERSIONS)

floors: $(BIN)/python ## Run the suite with the lowest versions that pyproject.toml allows.
	$(BIN)/python tests/compatibility/versions.py floors

pythons: $(BIN)/python ## Test the half that needs no torch on every Python of this machine.
	$(BIN)/python tests/compatibility/versions.py python $(VERSIONS)

dist: $(BIN)/python ## Build wheel and source distribution, and check them as an index and a user would.
	$(BIN)/python tests/compatibility/distribution.py

wheels: $(BIN)/python ## Build a wheel for each platform into build/wheels; only that of Linux on x86-64 can be run here.
	$(PIP) install build
	$(BIN)/python initplug/kernels/build_hook.py wheels build/wheels

MINUTES ?= 15

fuzz: $(VENV)/installed-tests ## Try random and hostile inputs of every kind for MINUTES=15 on two cores.
	$(BIN)/python tests/fuzz --minutes $(MINUTES)

conformance: $(VENV)/installed-tests ## Compare every preset with all of its models, large ones too.
	$(BIN)/pytest -n 2 tests/conformance -m "large or not large"

presets-table: $(VENV)/installed-tests ## Write the table of examples/guide/presets.md anew.
	$(BIN)/python tests/conformance/presets_table.py

inferences: $(VENV)/installed-tests ## Measure how often values alone tell what drew them, and write examples/guide/infer.md anew.
	$(BIN)/python tests/conformance/inferences.py --write

reference: $(VENV)/installed-tests ## Write the guide's reference of initializers anew, with its pictures.
	$(BIN)/python tests/documents/reference.py

docs: $(VENV)/installed-docs ## Build the site of the guide into build/site; a link that leads nowhere is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file examples/mkdocs.yml

COVERAGE := build/coverage-packages

recordings: $(VENV)/installed-tests ## Record 1,165 models of others, and write examples/guide/recordings.md anew (an hour; VERIFY=--verify compares recipes, too).
	$(PIP) install --no-deps --target $(COVERAGE) --upgrade --requirement tests/conformance/requirements-coverage.txt
	PYTHONPATH=$(COVERAGE) $(BIN)/python tests/conformance/recordings.py $(VERIFY) $(MODELS)

presets-coverage: $(VENV)/installed-tests ## Measure which models some preset reproduces, and write examples/guide/coverage.md anew.
	$(PIP) install --no-deps --target $(COVERAGE) --upgrade --requirement tests/conformance/requirements-coverage.txt
	PYTHONPATH=$(COVERAGE) $(BIN)/python tests/conformance/coverage_table.py $(MODELS)
	PYTHONPATH=$(COVERAGE) $(BIN)/pytest tests/conformance/test_presets.py

cookbook: $(VENV)/installed-tests ## Run the recipes of the cookbook and of migration that need packages which tests do not install.
	$(PIP) install --no-deps --target $(COVERAGE) --upgrade --requirement tests/conformance/requirements-coverage.txt
	PYTHONPATH=$(COVERAGE) $(BIN)/pytest -n 0 tests/conformance/test_cookbook.py

peers: $(VENV)/installed-tests ## Run the traps of examples/guide/peers.md on other packages, and write its table anew.
	$(PIP) install --no-deps --target $(COVERAGE) --upgrade --requirement tests/peers/requirements.txt
	PYTHONPATH=$(COVERAGE) $(BIN)/python tests/peers/table.py

browser: ## Install Chromium for the tests of the page, as root on Debian.
	@command -v chromedriver >/dev/null || { apt-get update --quiet --quiet && \
	    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
	    chromium chromium-driver fonts-dejavu-core; } >/dev/null

screenshots: $(VENV)/installed-tests ## Draw the picture of the page that the README shows.
	$(BIN)/python tests/reporting/screenshots.py

coverage: $(VENV)/installed-tests ## Measure which lines and branches the tests run; fewer than before are an error.
	$(BIN)/pytest -n 2 --cov --cov-report=term-missing

gates: $(VENV)/installed-tests ## Time what has a limit: the start of commands, and a thousand rules beside ten.
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/matching.py

benchmark: gates ## Time seeds beside torch.nn.init, shards beside the whole, planning by shapes of trees, probes and calibrating beside bare passes, too.
	$(BIN)/python tests/benchmarks/streams.py --small
	$(BIN)/python tests/benchmarks/sharded.py --small
	$(BIN)/python tests/benchmarks/replays.py --small
	$(BIN)/python tests/benchmarks/probing.py --small
	$(BIN)/python tests/benchmarks/calibrating.py --small

verdicts: $(VENV)/installed-tests ## Count misses and false alarms of the verdicts on signals over 50 seeds.
	$(BIN)/python tests/benchmarks/verdicts.py

coordinates: $(VENV)/installed-tests ## Compare coordinates over widths with those of the package mup.
	$(PIP) install --no-deps --target build/mup mup pandas python-dateutil six
	PYTHONPATH=build/mup $(BIN)/pytest -n 0 tests/conformance/test_probed_models.py -k mup

picture: $(VENV)/installed-examples ## Train the nets of the README's picture (minutes) and draw it anew.
	$(BIN)/python examples/train.py -m hydra.sweep.dir=build/picture/plain \
	    model=plain model.depth=20,56 init=torch_default,resnext,wrn steps=300
	$(BIN)/python examples/train.py -m hydra.sweep.dir=build/picture/residual \
	    model=residual model.depth=20,56 init=torch_default,resnext,wrn,zero_branch steps=300
	$(BIN)/python examples/compare.py build/picture/plain build/picture/residual --out examples/guide/losses.svg
	cd examples && $(abspath $(BIN))/initplug probe --config-dir ../configs --config-name config \
	    init=torch_default,resnext,wrn model.depth=56 --input 8x3x16x16 --report guide/probe.svg

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt $(wildcard initplug/kernels/*.[ch]) initplug/kernels/build_hook.py | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-examples: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[examples]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $@

# Third-party models come without their dependencies, since those would bring another torch, with CUDA.
$(VENV)/installed-tests: $(VENV)/installed tests/conformance/requirements.txt
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	$(PIP) install --no-deps --requirement tests/conformance/requirements.txt
	@touch $@

clean: ## Remove everything that was made.
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
