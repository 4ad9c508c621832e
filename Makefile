# `make demo` and `make test` work on a fresh machine with Python 3.11 or later, gcc and make. `make help` lists the rest.

PYTHON := $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types imports unit conformance conformance-eager conformance-engine conformance-compiled bench-small trust test-slow test-gpu install clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-21s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## train SAC on an inverted pendulum, a few minutes on one CPU core
	$(BIN)/entroreg train sac --env InvertedPendulum-v5 --steps 16000 --net 64 64 --batch-size 64 \
		--learning-rate 1e-3 --seed 0 --threads 1 --out runs/demo --overwrite

test: lint types imports unit conformance  ## everything that CI runs, below 20 minutes on two cores

check: test  ## the same as test

lint: $(INSTALLED)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/mypy

imports: $(INSTALLED)  ## import-linter: which package may import which
	$(BIN)/lint-imports

unit: $(INSTALLED)  ## pytest without the slow and the GPU tests, two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

conformance: $(INSTALLED)  ## stable-baselines3's own SAC tests on our SAC, eager and with the engine on, side by side
	$(MAKE) --jobs=2 --output-sync=target conformance-eager conformance-engine

conformance-eager conformance-engine: conformance-%: $(INSTALLED)
	$(BIN)/python tests/conformance/run.py $*

conformance-compiled: $(INSTALLED)  ## the same tests with each agent's update compiled, half an hour
	$(BIN)/python tests/conformance/run.py compiled

bench-small: $(INSTALLED)  ## every suite at preset small into benchmarks/results, resumable, some eight hours
	code=0; $(BIN)/entroreg bench run all --preset small --jobs 2 --out runs/small || code=$$?; \
	for folder in runs/small/*/; do \
		test ! -f $$folder/summary.json || cp $$folder/summary.json \
			benchmarks/results/$$(basename $$folder | tr - _)_small.json; \
	done; \
	$(BIN)/entroreg report benchmarks/results --out benchmarks/results/report || code=$$?; exit $$code

trust: $(INSTALLED)  ## kill trainings at 200 random instants, what checkpoints cost, the slow tests of trust
	code=0; $(BIN)/entroreg bench run trust --preset small --out runs/trust || code=$$?; \
	$(BIN)/python -m entroreg.benchmarks.trust.verdict runs/trust || code=$$?; \
	$(BIN)/python -m pytest tests/trust -m slow -rP || code=$$?; exit $$code

test-slow: $(INSTALLED)  ## minutes of training, statistical claims, the wheel
	$(BIN)/python -m pytest -m slow -rP

test-gpu: $(INSTALLED)  ## the tests that need CUDA
	$(BIN)/python -m pytest -m gpu

install: $(INSTALLED)  ## the environment in .venv, which every target above makes for itself

# Both PIP_ variables carry the pins into the build environment: pip below 25.3 reads the first, later ones the second.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install \
		-c constraints.txt -e ".[dev]" --config-settings editable_mode=compat
	touch $@

clean:  ## remove the environment, caches and builds; keeps runs/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
