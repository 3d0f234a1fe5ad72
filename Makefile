# Every target is one command; CI and the README call only these.
PYTHON ?= python3
PROCESSES ?= 2
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet -c constraints.txt

CLI_DOCS := COLUMNS=100 $(PY) -m typer mirror_rt_cli.app utils docs --name mirror-rt

.PHONY: install quickstart fix check test test-all docs site tables bench build clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/user: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[train,export,demo]' && touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[all,dev]' && touch $@

install: .venv/dev          ## everything a developer needs, in .venv

quickstart: .venv/user      ## the whole way on real data: train, export, index, link
	.venv/bin/mirror-rt quickstart --out quickstart --force

fix: .venv/dev              ## let ruff mend what it can
	.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

check: .venv/dev            ## style, types, import directions, generated pages
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports
	$(CLI_DOCS) | diff docs/cli.md - || { echo "docs/cli.md is behind the commands; run: make docs"; exit 1; }
	$(PY) benchmarks/render_tables.py --check

test: .venv/dev             ## the fast tests; a file runs in one process
	$(PY) -m pytest -q -n $(PROCESSES) --dist loadfile

test-all: .venv/dev         ## every test, the long ones too
	$(PY) -m pytest -q -m ''

docs: .venv/dev             ## the generated pages
	$(CLI_DOCS) > docs/cli.md

site: .venv/dev             ## the documentation as pages, in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

tables: .venv/dev           ## the tables of both READMEs, from benchmarks/results
	$(PY) benchmarks/render_tables.py

bench: .venv/dev            ## speed, alone on the machine: hours with every peer; more with DATA=DIR
	$(PY) -m pip --disable-pip-version-check install --quiet -c constraints.txt -e '.[bench]'
	for name in encode_speed embed_scale latency import_time train_speed; do \
		$(PY) benchmarks/$$name.py --out benchmarks/results/$$name.json > /dev/null || exit 1; done
ifdef DATA
	$(PY) benchmarks/encode_speed.py --strings sentences --data $(DATA) \
		--out benchmarks/results/encode_speed_sentences.json > /dev/null
	$(PY) benchmarks/quantization.py --data $(DATA) --out benchmarks/results/quantization.json > /dev/null
endif
	$(PY) benchmarks/render_tables.py

build: .venv/dev            ## sdist, and the wheel made from it
	$(PY) -m build

clean:
	rm -rf .venv build dist quickstart site *.egg-info
