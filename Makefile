# make train | test | gpu | lint: from a fresh machine with only python3 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# CIFAR-10: DATA=DIR, else $FASTCIFAR_DATA, else ../shared/data; else fastcifar looks in the user's cache, then downloads.
ifneq ($(DATA),)
export FASTCIFAR_DATA := $(abspath $(DATA))
else ifeq ($(FASTCIFAR_DATA),)
ifneq ($(wildcard ../shared/data/.),)
export FASTCIFAR_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: train test gpu lint install clean

train: install
	$(BIN)/fastcifar train $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# All that only a GPU can show, its tests among it; ARGS=--dry-run goes through it on the CPU.
gpu: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks gpu $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed

# What training needs; and, over it, what the tests need too.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
