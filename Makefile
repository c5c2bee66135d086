# Nothing is needed but Python >= 3.11, make and a package index.
#   make demo    every stage on a built-in phantom      make test         the tests
#   make check   style, types, the built wheel          make test-peers   those with other programs
#   make docs    the documentation in site/
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
EXTRAS ?= dev,cluster,peers,search,serve
KERNELS := medseg_nca/nca/kernels
# Tests that take long with programs of other people: Orthanc, Chromium, MONAI Label's client, ...
PEERS := peer and slow

.PHONY: demo test test-peers check docs install clean
.DEFAULT_GOAL := test

install: $(VENV)/.installed

# Installed again only when one of these files is newer than the last installation.
$(VENV)/.installed: pyproject.toml setup.cfg constraints.txt $(wildcard $(KERNELS)/src/*) \
		$(KERNELS)/build.py $(KERNELS)/packaging.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) .ci/install.py $(VENV) $(EXTRAS)
	@touch $@

demo: install
	$(BIN)/medseg-nca demo
	@echo "Next: the tour in README.md; the command is $(BIN)/medseg-nca"

test: install
	$(BIN)/python -m pytest -n $(JOBS) -m "not ($(PEERS))" $(ARGS)

test-peers: install
	$(BIN)/python -m pytest -n $(JOBS) -m "$(PEERS)" $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/wheel_check.py

docs: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
