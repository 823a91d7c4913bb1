# make demo: install and run the main job. make test: install and pass the tests.
# make docs-tables: the tables of the documents that take seconds; docs/fill_tables.py --list names all.
# make mutants: do the tests notice 200 small changes of what makes numbers? (bench/mutants.py)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test exhaustive mutants lint docs-tables clean

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

docs-tables: $(INSTALLED)
	$(BIN)/python docs/fill_tables.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,evaluate]" --group dev
	touch $@

clean:
	rm -rf $(VENV) results
