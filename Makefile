# The only door to the project: `make help` lists what it does. `make bench` and `make test` also work
# as the very first command in a fresh clone; they set up .venv from requirements.lock first.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

TORCH := torch==2.13.0
PYTHON ?=
BIN := .venv/bin
PIP_FLAGS := -qq --disable-pip-version-check --no-input

# What `make bench ALGO=... ENV=...` hands to the command line tool. A value is data: it is taken
# literally (never expanded by make), reaches the recipe through the environment, and is quoted
# there. Only the command line counts; an ENV or STEPS that happens to be in the caller's
# environment must not change a benchmark.
VALUES := ALGO ENV PROTOCOL SEEDS STEPS DEVICE ENGINE JOBS EXECUTOR RESULTS SET PRESET STALE \
	RECORD BASE PROFILE
$(foreach name,$(VALUES),$(if $(filter command,$(firstword $(origin $(name)))),\
	$(eval override $(name) := $$(value $(name)))$(eval export $(name)),\
	$(eval override $(name) :=)$(eval unexport $(name))))

# Shell words for an option: nothing when its variable is empty or not given.
option = $${$(1):+--$(2)="$$$(1)"}
BENCH_OPTIONS = $(call option,PROTOCOL,protocol) $(call option,SEEDS,seeds) \
	$(call option,STEPS,steps) $(call option,DEVICE,device) $(call option,ENGINE,engine) \
	$(call option,JOBS,jobs) $(call option,EXECUTOR,executor) $(call option,RESULTS,results) \
	$(call option,SET,set) $(call option,PRESET,preset) $$(case "$$STALE" in ""|0|no|false) ;; *) echo --stale ;; esac)

.PHONY: help
help: ## this list
	@echo "make TARGET [VARIABLE=value ...]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done
	@echo "Example: make bench ALGO=ppo ENV=gymnasium/CartPole-v1"

.PHONY: setup
setup: .venv/.ready ## .venv with everything, from requirements.lock

# The stamp is the last thing written, so an interrupted set-up is done again.
.venv/.ready: requirements.lock pyproject.toml
	@set -e; rm -f $@; python=; \
	for candidate in $(or $(PYTHON),python3.11 python3.12 python3); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
			>/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "setup: needs Python 3.11 or 3.12 ($(or $(PYTHON),python3.11, python3.12, python3): none" \
			"of them is one). Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "setup: .venv with $$("$$python" --version)"; \
	"$$python" -m venv .venv; \
	echo "setup: $(TORCH)"; \
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint requirements.lock $(TORCH); \
	echo "setup: $$(grep -c "^[^#]" requirements.lock) packages of requirements.lock"; \
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps -r requirements.lock; \
	echo "setup: rlsuite"; \
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .; \
	touch $@

.PHONY: bench
bench: .venv/.ready ## run what is missing: ALGO= ENV= [PROTOCOL= SEEDS= STEPS= DEVICE= ENGINE= JOBS= ...]
	@$(BIN)/suite bench $(BENCH_OPTIONS) -- "$$ALGO" "$$ENV"

.PHONY: plan
plan: .venv/.ready ## what such a bench would run, with hours and memory
	@$(BIN)/suite plan $(BENCH_OPTIONS) -- "$$ALGO" "$$ENV"

.PHONY: list
list: .venv/.ready ## the matrix of algorithms and families, and how far each cell is: [PROTOCOL=]
	@$(BIN)/suite list $(call option,PROTOCOL,protocol) $(call option,RESULTS,results)

.PHONY: report
report: .venv/.ready ## regenerate reports/ from results/: [PROTOCOL=]
	@$(BIN)/suite report $(call option,PROTOCOL,protocol) $(call option,RESULTS,results)

.PHONY: check
check: .venv/.ready ## validate every file of results/
	@$(BIN)/suite check $(call option,RESULTS,results)

.PHONY: regress
regress: .venv/.ready ## has an algorithm become worse? ALGO= [ENV= BASE=main PROFILE=quick JOBS=]
	@$(BIN)/suite regress $(call option,ENV,env) $(call option,BASE,base) \
		$(call option,PROFILE,profile) $(call option,JOBS,jobs) -- "$$ALGO"

.PHONY: reproduce
reproduce: .venv/.ready ## run one record again and compare: RECORD=results/.../ppo.json
	@$(BIN)/suite reproduce -- "$$RECORD"

.PHONY: perf
perf: .venv/.ready .venv-peers/.ready ## training speed side by side with peers, as ratios
	@$(BIN)/suite perf

.PHONY: doctor
doctor: .venv/.ready ## what is installed, what each family lacks, and the command that adds it
	@$(BIN)/suite doctor

# The peers' packages stand in pyproject.toml, everything below them in requirements.lock, so that
# both sides of a comparison run on the same versions.
.venv-peers/.ready: .venv/.ready
	@set -e; rm -f $@; echo "setup: .venv-peers"; \
	$(BIN)/python -m venv .venv-peers; \
	$(BIN)/python -c 'import pathlib, sys, tomllib; sys.stdout.write("\n".join(tomllib.loads( \
		pathlib.Path("pyproject.toml").read_text())["project"]["optional-dependencies"]["peers"]))' \
		> .venv-peers/peers.txt; \
	.venv-peers/bin/python -m pip install $(PIP_FLAGS) --constraint requirements.lock $(TORCH) \
		-r .venv-peers/peers.txt; \
	touch $@

.PHONY: test
test: .venv/.ready ## the fast tests, under 10 minutes on 2 cores
	@$(TEST_THREADS) $(BIN)/python -m pytest -q -n 2 -m "not slow"

.PHONY: test-all
test-all: .venv/.ready ## every test
	@$(TEST_THREADS) $(BIN)/python -m pytest -q -n 2

# One thread per test process: the tests themselves run side by side.
TEST_THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: lint
lint: .venv/.ready ## rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: .venv/.ready ## put the source in format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: type
type: .venv/.ready ## check types
	@$(BIN)/mypy
