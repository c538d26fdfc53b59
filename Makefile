# Two commands on a fresh machine: `make train` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
STAMP := $(shell date +%Y%m%d-%H%M%S)

.PHONY: environment train test test-browser test-cluster test-postgresql test-real-data mutants lint types

environment: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: environment
	$(BIN)/mypy

# One fold on the embedded simulated store, with and without an environment, evaluated; the names are free each time.
train: environment stores/simulated
	$(BIN)/python distributed/train.py --store stores/simulated --config configs/train/simulated.yaml \
		--config configs/train/no_environment.yaml --name simulated-$(STAMP)-without
	$(BIN)/python distributed/train.py --store stores/simulated --config configs/train/simulated.yaml --name simulated-$(STAMP)
	$(BIN)/python distributed/evaluate.py --run runs/simulated-$(STAMP) --without-environment runs/simulated-$(STAMP)-without

stores/simulated: | environment
	$(BIN)/python data_pipeline/simulate.py --out $@

# What this machine cannot run is left out, and the last lines say so. TESTS chooses: TESTS=tests/data_pipeline/episodes/test_plan.py for one file.
test: environment
	$(BIN)/python -m pytest $(TESTS)

# These fail where something is missing that they need.
test-browser: environment
	$(BIN)/python -m pytest --must-run browser -m browser

test-cluster: environment
	$(BIN)/python -m pytest --must-run cluster -m cluster

test-postgresql: environment
	$(BIN)/python -m pytest --must-run postgresql -m postgresql

test-real-data: environment
	$(BIN)/python -m pytest --must-run real_data -m real_data

# Outside CI: what could be changed in these files without any test of the model noticing? Files: those changed since
# SINCE, or FILES. KEYWORDS leaves out tests as pytest's -k does; a change that none notices costs a run of the others.
SINCE ?= HEAD~
FILES ?= $(shell git diff --name-only --diff-filter=d $(SINCE) -- 'model/*.py' 'evaluation/*.py')
MUTATED = $(subst /,.,$(patsubst %.py,%.,$(FILES)))
mutants: environment
	$(if $(MUTATED),,$(error no file of model/ or evaluation/ has changed since $(SINCE); name one, as in FILES=model/terms/adversary.py))
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	PYTEST_ADDOPTS="-k '$(KEYWORDS)'" nice $(BIN)/mutmut run --max-children 1 $(patsubst %,'%*',$(MUTATED))
	$(BIN)/mutmut results | grep -F $(addprefix -e ,$(MUTATED)) | sed -n 's/: \(survived\|no tests\)$$//p' | \
		xargs -rn1 $(BIN)/mutmut show
