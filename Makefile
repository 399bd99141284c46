# make run    verify the shipped specs and write reports/latest
# make test   everything that CI checks
# make docs   build the site into build/docs
# make clean  remove the environment and what was generated
#
# Both set up .venv when it is missing or out of date. All they need is make and Python 3.11 or later; name another
# one with PYTHON=python3.13. RUN holds further options: make run RUN='-k avgpool2d --no-latency'.

PYTHON ?= python3
RUN ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# An environment is up to date when it is newer than what it was made from.
MADE_FROM := pyproject.toml constraints.txt harness/__init__.py

.PHONY: run test docs clean

run: $(VENV)/for-run
	$(BIN)/harness run $(RUN) specs/

# pytest comes last, so that its closing line is the last one.
test: $(VENV)/for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -n 2 --dist loadfile

docs: $(VENV)/for-test
	$(BIN)/sphinx-build -q -W --keep-going docs build/docs

$(VENV)/for-run: $(MADE_FROM) | $(BIN)/pip
	@echo 'Installing harness with PyTorch and ONNX Runtime into $(VENV); the first time takes some minutes.'
	$(INSTALL) -e '.[cpu]'
	@touch $@

$(VENV)/for-test: $(MADE_FROM) | $(BIN)/pip
	@echo 'Installing harness with its development tools into $(VENV); the first time takes some minutes.'
	$(INSTALL) -e '.[cpu,dev]'
	@touch $@ $(VENV)/for-run

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) reports/latest build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
