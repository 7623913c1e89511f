# Each verb works in a fresh clone with nothing installed, and is quick the second time.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# As many processes as there are cores: the tests are independent of one another. One that has
# nothing left takes over from the others, or it would wait for the longest tests.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-slow test-all lint docs bench clean
.DEFAULT_GOAL := help

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## train a small ensemble on real digits, embed it, draw it (about 3 minutes)
	$(BIN)/inpca demo --output demo-output

test: $(VENV)/.test $(VENV)/.gpu-compile ## the quick tests (under 10 minutes on two cores)
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.test $(VENV)/.gpu-compile ## the tests that take long
	$(PYTEST) -m slow

test-all: test test-slow ## both

lint: $(VENV)/.lint ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(VENV)/.test $(VENV)/.bench ## the benchmarks, each against something measured in the same run
	$(BIN)/python benchmarks/bench_distance.py
	$(BIN)/python benchmarks/bench_eigen.py --models 4000
	$(BIN)/python benchmarks/bench_geometry.py
	$(BIN)/python benchmarks/bench_trajectories.py

clean: ## remove what can be made again
	rm -rf $(VENV) demo-output docs/_build .pytest_cache .mypy_cache .ruff_cache

# One stamp per extra: pip runs again only when what is to be installed has changed.
$(VENV)/.%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing inpca[$*] into $(VENV)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
