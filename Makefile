# make demo: install and run the main job. make test: install and pass the tests.
# make docs-tables: the tables of the documents that take seconds; docs/fill_tables.py --list names all.
# make docs: the documents as a site in results/site, with search and the API's reference; checks all links.
# make pages: a report in a headless Chromium: pictures at three widths, light and dark, and axe-core.
# make mutants: do the tests notice 200 small changes of what makes numbers? (bench/mutants.py)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test exhaustive mutants lint docs docs-tables pages clean

demo: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" ACCELERATE_LOG_LEVEL=ERROR accelerate launch harness --tasks hans,celeba_bias --seeds 0,1,2,3,4 --margin .05

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

exhaustive: $(INSTALLED)
	$(BIN)/python -m pytest -m exhaustive
	$(BIN)/python bench/faults.py --write

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

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,evaluate]" --group dev
	touch $@

clean:
	rm -rf $(VENV) results
