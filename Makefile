# The commands of this project. Each makes its environment if it is missing; a second call starts at once.
PYTHON ?= python3
VENV ?= .venv
ACCEL ?= cpu
DATA ?= shop
QUICKSTART_ARGS ?=
SPEED_ARGS ?=
PYTEST_ARGS ?=
DEMO_ARGS ?=

ifeq ($(filter cpu cuda tpu,$(ACCEL)),)
$(error ACCEL must be cpu, cuda or tpu, not '$(ACCEL)')
endif

BIN := $(VENV)/bin
EXTRA_cpu :=
EXTRA_cuda := cuda
EXTRA_tpu := tpu
PINS := pyproject.toml constraints.txt

.PHONY: setup quickstart demo test test-all lint format bench speed demo-text-to-image clean
.DELETE_ON_ERROR:

setup: $(VENV)/.core-$(ACCEL)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make setup PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core-$(ACCEL): $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.$(if $(EXTRA_$(ACCEL)),[$(EXTRA_$(ACCEL))])'
	@touch $@

$(VENV)/.tfds: $(PINS) $(VENV)/.core-$(ACCEL)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[tfds]'
	@touch $@

$(VENV)/.test: $(PINS) $(VENV)/.core-$(ACCEL)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@

# CIFAR-10 comes through TFDS unless a local folder is named by KMM_DATA_DIR.
quickstart: $(VENV)/.core-$(ACCEL) $(if $(filter cifar10,$(DATA)),$(if $(KMM_DATA_DIR),,$(VENV)/.tfds))
	$(BIN)/kmm quickstart --data $(DATA) $(QUICKSTART_ARGS)

# A search page over a corpus that is made: of the shop, and of real photos if KMM_DATA_DIR has them.
demo: $(VENV)/.serve
	$(BIN)/kmm demo $(DEMO_ARGS)

$(VENV)/.serve: $(PINS) $(VENV)/.core-$(ACCEL)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[serve]'
	@touch $@

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

$(VENV)/.test-all: $(VENV)/.test
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,test-all,trackers,s3]'
	@touch $@

test-all: $(VENV)/.test-all
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not bench' $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test
	$(BIN)/python -m tools.bench

# Minutes on a processor; with ACCEL=cuda hours, which SPEED_ARGS="--budget-minutes 60" bounds and
# SPEED_ARGS=--resume takes up again.
speed: $(VENV)/.test
	$(BIN)/python -m tools.bench.train_step $(SPEED_ARGS)

# A small generator and a Korean reader for it, on Fashion Product Images in KMM_DATA_DIR.
demo-text-to-image: $(VENV)/.analysis
	$(BIN)/python -m tools.text_to_image --rung --work runs/demo-text-to-image $(DEMO_ARGS)

$(VENV)/.analysis: $(PINS) $(VENV)/.core-$(ACCEL)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[analysis]'
	@touch $@

clean:
	rm -rf .cache dist build
