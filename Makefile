# `make help` lists the targets. PYTHON is the interpreter of a new environment, CORES the number of cores for Snakemake
# (empty: all), PIP_OPTIONS are more options for pip. TORCH_INDEX is an index with another build of PyTorch than PyPI's,
# such as https://download.pytorch.org/whl/cu126 (docs/cluster-sites.md); the environment keeps it until you give
# another one.
PYTHON ?= python3
CORES ?=
PIP_OPTIONS ?=
INSTALLED_INDEX := $(shell cat .venv/installed 2>/dev/null)
TORCH_INDEX ?= $(INSTALLED_INDEX)
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(or $(strip $(CORES)),all) --rerun-incomplete
DEMO := --configfile experiments/demo.yaml
# For `make verify`: the folder of a finished experiment.
RESULTS ?= results/demo
# For `make resume`: the arguments of the killed Snakemake; RESUME=--cancel cancels jobs that still run.
ARGS ?= --profile slurm results/table1.csv
RESUME ?=

.DEFAULT_GOAL := help
.PHONY: help environment demo verify resume test test-slurm test-experiments lint format reference clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

environment: .venv/installed ## create .venv from the lock

# Another build of PyTorch replaces the whole environment.
ifneq ($(TORCH_INDEX),$(INSTALLED_INDEX))
.venv/installed: another-build
CLEAR := --clear
endif
.PHONY: another-build
another-build:

# PyTorch comes first, alone, from its index. Then pip keeps this build of the lock's version and adds what it needs.
.venv/installed: envs/requirements.txt envs/snakemake
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(CLEAR) .venv
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet $(PIP_OPTIONS) --no-deps --index-url '$(TORCH_INDEX)' $$(grep ^torch== envs/requirements.txt))
	$(BIN)/pip install --quiet $(PIP_OPTIONS) $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') --requirement envs/requirements.txt
	install -m 755 envs/snakemake $(BIN)/snakemake
	echo '$(TORCH_INDEX)' >$@

demo: .venv/installed ## the whole study, demo-sized: raw text to Table 1, figures and PDF
	$(SNAKEMAKE) $(DEMO)

verify: .venv/installed ## recompute every published number of RESULTS, and check what makes them reproducible
	$(BIN)/python scripts/verify.py --results '$(RESULTS)'

resume: .venv/installed ## resume after a workflow on Slurm was killed; ARGS are its arguments
	$(BIN)/python scripts/resume.py $(RESUME)
	$(BIN)/snakemake --unlock $(ARGS)
	$(BIN)/snakemake $(ARGS)

test: .venv/installed .venv/gpu/installed .venv/older/installed .venv/llama/installed ## unit tests, and the smoke experiment end to end
	$(BIN)/python -m pytest

# In a folder of its own: kernels for a GPU, which tests run in an interpreter.
.venv/gpu/installed: envs/gpu.txt envs/interpreter.txt | .venv/installed
	$(BIN)/pip install --quiet $(PIP_OPTIONS) --no-deps --upgrade --target .venv/gpu --requirement envs/interpreter.txt
	touch $@

# In folders of their own: an older transformers, which must load released models, and llama.cpp for GGUF files.
.venv/older/installed .venv/llama/installed: .venv/%/installed: envs/%.txt | .venv/installed
	$(BIN)/pip install --quiet $(PIP_OPTIONS) --no-deps --upgrade --target .venv/$* --requirement $<
	touch $@

test-slurm: .venv/installed ## everything on a real Slurm of this machine's own, the long tests too
	$(BIN)/python -m pytest tests/slurm tests/train/test_train_launch.py --slurm-full

test-experiments: .venv/installed .venv/gpu/installed ## before a release: the demo, every experiment at smoke size, other long tests
	$(BIN)/python -m pytest -m experiments --experiments

lint: .venv/installed ## ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile rules
	$(BIN)/snakemake --lint

format: .venv/installed ## format all code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

reference: .venv/installed ## write the pages docs/configuration*.md, after a change of the config's keys
	$(BIN)/python scripts/configuration_reference.py --config config.yaml --folder docs

clean: ## remove the results of the demo and the smoke experiment
	rm -rf results/demo results/smoke
