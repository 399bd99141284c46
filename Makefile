# make run    verify the shipped specs and write reports/latest
# make test   everything that CI checks
# make replay compare every result of the working tree with those of a revision: make replay REV=origin/main
# make mutants  show that the tests notice small mistakes in what decides; an hour
# make docs   build the site into build/docs
# make matrix try harness in every environment of reports/versions.md, one after another; MATRIX='-s lowest' tries one
# make gpu    on a machine with an NVIDIA GPU: verify the shipped specs there, and time them with TF32 off and on
# make models judge correct and faulty models of torchvision and transformers, and write reports/models.md
# make clean  remove the environment and what was generated
#
# Each sets up its environment when it is missing or out of date: .venv, .venv-cuda for the GPU, and .venv-models. All they
# need is make and Python 3.11 or later; name another one with PYTHON=python3.13. RUN holds further options: make run RUN='-k avgpool2d --no-latency'.

PYTHON ?= python3
RUN ?=
MATRIX ?=
MUTANTS ?=
MODELS ?=

VENV := .venv
BIN := $(VENV)/bin
CUDA_VENV := .venv-cuda
CUDA_BIN := $(CUDA_VENV)/bin
MODELS_VENV := .venv-models
MODELS_BIN := $(MODELS_VENV)/bin
INSTALL_WITH := -m pip install --disable-pip-version-check -c constraints.txt
INSTALL := $(BIN)/python $(INSTALL_WITH)

# What make gpu times: the cases with sizes that matter on hardware, with float32 products in full precision and in TF32.
TIMED := -k image -k notes-experiment -k lenet-head
TF32 := trace/torch-cuda?tf32=off,trace/torch-cuda?tf32=on,onnx-dynamo@23/ort-cuda?tf32=off,onnx-dynamo@23/ort-cuda?tf32=on

# An environment is up to date when it is newer than what it was made from.
MADE_FROM := pyproject.toml constraints.txt harness/__init__.py

.PHONY: run test docs gpu driver matrix models mutants clean replay

run: $(VENV)/for-run
	$(BIN)/harness run $(RUN) specs/

# pytest comes last, so that its closing line is the last one.
test: $(VENV)/for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin --quiet --no-tips --violations --target=3.10- harness
	$(BIN)/pytest -n 2 --dist loadfile

# REV is a commit, tag or branch; without it, HEAD where there are changes, else where the branch left main. REPLAY holds further
# options: make replay REPLAY='--only backend'.
replay: $(VENV)/for-test
	$(BIN)/python -m benchmarks.replay $(REV) $(REPLAY)

# MUTANTS holds further options: make mutants MUTANTS='--rooms gate'. A second run continues a first one.
mutants: $(VENV)/for-mutants
	$(BIN)/python -m benchmarks.mutants $(MUTANTS)

docs: $(VENV)/for-test
	$(BIN)/sphinx-build -q -W --keep-going docs build/docs

# Hours and gigabytes: each environment is installed, tried, noted in reports/versions.md, and taken away again.
matrix: $(VENV)/for-test
	$(BIN)/nox $(MATRIX)

# Up to 70 minutes on two busy cores, and 6 GB of disk. MODELS holds further options: make models MODELS='power --only bert'.
models: $(MODELS_VENV)/for-models
	$(MODELS_BIN)/python -m benchmarks.models $(MODELS)

# Both reports are made where a check came out otherwise than on a CPU, and the target fails all the same.
gpu: driver $(CUDA_VENV)/for-gpu
	@$(CUDA_BIN)/harness run specs/ --targets cuda --require torch-cuda --require ort-cuda --report-dir reports/cuda; \
	verified=$$?; [ $$verified -le 1 ] || exit $$verified; \
	$(CUDA_BIN)/harness bench specs/ $(TIMED) --targets '$(TF32)' --require torch-cuda --require ort-cuda \
		--report-dir reports/cuda-bench && exit $$verified

# Asked before anything is downloaded.
driver:
	@nvidia-smi -L || { echo 'make gpu: no NVIDIA driver answers here; run it on a machine with an NVIDIA GPU' >&2; exit 3; }

$(VENV)/for-run: $(MADE_FROM) | $(BIN)/pip
	@echo 'Installing harness with PyTorch and ONNX Runtime into $(VENV); the first time takes some minutes.'
	$(INSTALL) -e '.[cpu]'
	@touch $@

$(VENV)/for-test: $(MADE_FROM) | $(BIN)/pip
	@echo 'Installing harness with its development tools into $(VENV); the first time takes some minutes.'
	$(INSTALL) -e '.[cpu,dev]'
	@touch $@ $(VENV)/for-run

$(VENV)/for-mutants: $(MADE_FROM) $(VENV)/for-test
	$(INSTALL) -e '.[mutants]'
	@touch $@

$(CUDA_VENV)/for-gpu: $(MADE_FROM) | $(CUDA_BIN)/pip
	@echo 'Installing harness with PyTorch and ONNX Runtime for CUDA into $(CUDA_VENV); the first time takes some minutes.'
	$(CUDA_BIN)/python $(INSTALL_WITH) -e '.[cuda]'
	@touch $@

$(MODELS_VENV)/for-models: $(MADE_FROM) constraints-models.txt | $(MODELS_BIN)/pip
	@echo 'Installing harness with torchvision and transformers into $(MODELS_VENV); the first time takes some minutes.'
	$(MODELS_BIN)/python -m pip install --disable-pip-version-check -c constraints-models.txt -e '.[cpu]' torchvision transformers
	@touch $@

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(CUDA_BIN)/pip:
	$(PYTHON) -m venv $(CUDA_VENV)

$(MODELS_BIN)/pip:
	$(PYTHON) -m venv $(MODELS_VENV)

clean:
	rm -rf $(VENV) $(CUDA_VENV) $(MODELS_VENV) .nox reports/latest build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
