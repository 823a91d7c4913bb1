# make demo: install and run the main job. make test: install and pass the tests.
# make docs-tables: the tables of the documents that take seconds; docs/fill_tables.py --list names all.
# make docs: the documents as a site in results/site, with search and the API's reference; checks all links.
# make pages: a report in a headless Chromium: pictures at three widths, light and dark, and axe-core.
# make lowest: the lowest versions that pyproject.toml allows, with a part of the tests.
# make sdist: build the distributions, and pass the tests from the unpacked source archive.
# make mutants: do the tests notice 200 small changes of what makes numbers? (bench/mutants.py)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# workers and the processes that tests start read what the first one has compiled
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test exhaustive lowest sdist mutants lint docs docs-tables pages clean

demo: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" ACCELERATE_LOG_LEVEL=ERROR accelerate launch harness --tasks hans,celeba_bias --seeds 0,1,2,3,4 --margin .05 --workers auto

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

exhaustive: $(INSTALLED) lowest
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group exhaustive
	$(BIN)/python -m pytest -m exhaustive
	$(BIN)/python -m pytest tests/hooks/test_trackers.py tests/hooks/test_export.py
	$(BIN)/python bench/faults.py --write

# torch is the pinned one unless TORCH says otherwise: its older releases exist for Linux on an index
# as builds of several GB only. --no-deps, because the list is the whole resolution.
LOWEST := $(VENV)-lowest
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
lowest: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	$(BIN)/uv pip compile --quiet --no-annotate --no-header --resolution lowest-direct --extra train --extra evaluate --output-file $(LOWEST).txt pyproject.toml
	sed -i.all -E '/^(torch|triton|nvidia|cuda)/d' $(LOWEST).txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt torch==$(TORCH) jsonschema pytest pytest-timeout
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --requirement $(LOWEST).txt --editable .
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider tests/config tests/test_core.py tests/scoring/test_metrics.py tests/hooks/test_outputs.py tests/hooks/test_export.py
	$(LOWEST)/bin/harness --tasks hans --limit 400 --seeds 0 --set teacher.erm_epochs=0 --set student.erm_epochs=0 --set teacher.epochs=1 --set student.epochs=1 --output_path $(LOWEST)/run
	$(LOWEST)/bin/harness report $(LOWEST)/run --output_path $(LOWEST)/page

# the archive holds all that the tests read; its own `make test` installs into a .venv of its own
sdist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	tar -xzf dist/*.tar.gz -C dist
	$(MAKE) -C dist/debias_transfer-*/ test
	rm -rf dist/debias_transfer-*/

mutants: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python bench/mutants.py --output results/mutants.jsonl

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python docs/build_site.py --output_path results/site

docs-tables: $(INSTALLED)
	$(BIN)/python docs/fill_tables.py

# a run of faces with everything that a report shows, then its page in Chromium
PAGES := results/pages
pages: $(INSTALLED)
	$(BIN)/harness --tasks celeba_bias --seeds 0,1 --log_samples --output_path $(PAGES) --analyze
	$(BIN)/harness remedy --tasks celeba_bias --seeds 0,1 --baseline student_ce --budget 2 --output_path $(PAGES)
	$(BIN)/harness report $(PAGES) --output_path $(PAGES)/page
	if command -v npm > /dev/null; then npm install --silent --prefix $(PAGES)/npm axe-core; fi
	$(BIN)/python docs/look_at_pages.py --output_path $(PAGES)/looks --axe $(PAGES)/npm $(PAGES)/page/*.html

# pip itself compiles one file after the other, the tests of every package as well
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[train,evaluate]" --group dev
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(LOWEST).txt* dist results
