# Everything that people and CI run. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install proto lint check test bench bench-simulation bench-training bench-triton fuzz demo serve clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: .venv/.installed ## make .venv with everything, pinned by constraints.txt

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnnserve needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

proto: ## generate the stubs from proto/
	proto/generate.sh

lint: install ## format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install ## style, types, Dockerfile, stubs: changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	proto/generate.sh --check

test: install .venv-perf/.installed ## the tests
	$(BIN)/pytest

.venv-perf/.installed: bench/load_generator.py | .venv/.installed
	$(BIN)/python -m bench.load_generator .venv-perf

bench: install ## measure, print a table, write docs/benchmarks.md
	$(BIN)/python -m bench

bench-simulation: install ## the scheduler beside systems that pad, write docs/scheduling.md
	$(BIN)/python -m bench.simulation

bench-training: install .venv-peers/.installed ## training speed beside torch, Keras 3 and tf_keras
	$(BIN)/python -m bench.training .venv-peers/bin/python

TRITON_PYTHON ?= $(PYTHON)

bench-triton: install .venv-triton/.installed ## beside a real Triton server, under perf_analyzer
	$(BIN)/python -m bench.triton .venv-triton

.venv-triton/.installed: bench/triton-peer.txt
	$(TRITON_PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "the peer needs numpy 1, which Python " + sys.version.split()[0] + " has not: make TRITON_PYTHON=python3.12 …")'
	$(TRITON_PYTHON) -m venv --clear .venv-triton
	.venv-triton/bin/pip install --quiet --requirement bench/triton-peer.txt
	.venv-triton/bin/pip install --quiet --no-deps nvidia-pytriton==0.7.0
	@touch $@

.venv-peers/.installed: bench/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement bench/peers.txt
	.venv-peers/bin/pip install --quiet --no-deps tf_keras==2.21.0
	@touch $@

MINUTES ?= 3

fuzz: install ## malformed requests against a real server, MINUTES=3; SEED=7 for the same again
	$(BIN)/python -m fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

demo: install ## train, export, serve and stream a real data set
	$(BIN)/python -m demo

serve: install ## serve ./repository
	$(BIN)/rnnserve serve --repository repository

clean: ## remove what the targets above made
	rm -rf .venv .venv-proto .venv-peers .venv-triton .venv-perf .demo .fuzz runs repository .pytest_cache .mypy_cache .ruff_cache .hypothesis
