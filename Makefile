# make demo    train, calibrate, predict and choose a threshold on BBC News with a small pretrained model
# make test    ruff, mypy and pytest
# make setup   the set-up alone; the others do it first when it is missing
#
# make test-classic          the tests on what plain `pip install .` gives with Python 3.10 (PYTHON310=...)
# make test-transformers5    the tests of the parts that need no AllenNLP, with newer transformers
# make benchmark-engine      and -precision, -limits, -predict, -methods, -soak: see benchmarks/; ARGS="--help"
# make fuzz-reader           and -predictor_json, -command_inputs: see fuzz/; ARGS="-max_total_time=60"
#
# PYTHON=python3.12 make setup    chooses the interpreter, of 3.11 and 3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

DEMO_RUN ?= runs/bbc_news
DEMO_OVERRIDES ?= {}
DEMO_THRESHOLD := 0.9
ARCHIVE := $(DEMO_RUN)/model.tar.gz
# Written when training has ended well: AllenNLP makes an archive when it is interrupted, too.
TRAINED := $(DEMO_RUN)/.trained
INCLUDE := --include-package sledgehammer_allennlp

.PHONY: demo test test-classic has-python310 test-transformers5 setup clean

demo: $(TRAINED) data/bbc_news/examples.jsonl
	@echo "Predicting the sentences of data/bbc_news/examples.jsonl at threshold $(DEMO_THRESHOLD):"
	@$(BIN)/allennlp predict $(ARCHIVE) data/bbc_news/examples.jsonl $(INCLUDE) --silent \
		--output-file $(DEMO_RUN)/predictions.jsonl \
		--overrides '{"model.confidence_threshold": $(DEMO_THRESHOLD)}' 2> $(DEMO_RUN)/predict.log \
		|| { cat $(DEMO_RUN)/predict.log; exit 1; }
	@$(BIN)/python scripts/show_predictions.py data/bbc_news/examples.jsonl $(DEMO_RUN)/predictions.jsonl
	@echo
	@echo "Every threshold, on the test articles:"
	ALLENNLP_LOG_LEVEL=WARNING \
	$(BIN)/allennlp tradeoff $(ARCHIVE) data/bbc_news/test.tsv $(INCLUDE) --measure \
		--output-dir $(DEMO_RUN)/tradeoff
	@echo
	@echo "Written too: the model $(ARCHIVE), its metrics $(DEMO_RUN)/metrics.json,"
	@echo "  the predictions $(DEMO_RUN)/predictions.jsonl"
	@echo "Next, open $(DEMO_RUN)/tradeoff/report.html in a browser, and choose a threshold for your own"
	@echo "sentences, one {\"sentence\": ...} a line:"
	@echo "  $(BIN)/allennlp predict $(ARCHIVE) data/bbc_news/examples.jsonl $(INCLUDE) \\"
	@echo "    --overrides '{\"model.confidence_threshold\": $(DEMO_THRESHOLD)}'"

$(TRAINED): training_config/bbc_news.jsonnet sledgehammer_allennlp/configs/multi_exit.libsonnet data/bbc_news/examples.jsonl
	ALLENNLP_LOG_LEVEL=WARNING \
	$(BIN)/allennlp train training_config/bbc_news.jsonnet --serialization-dir $(DEMO_RUN) --force \
		$(INCLUDE) --file-friendly-logging --overrides '$(DEMO_OVERRIDES)'
	@touch $@

data/bbc_news/examples.jsonl: scripts/prepare_demo.py | $(INSTALLED)
	$(BIN)/python scripts/prepare_demo.py --output-dir data

# A process for each core, up to memory for eight.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8 --dist worksteal

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PYTEST_ARGS)

# The classic stack: old versions that AllenNLP asks for itself, all chosen by pip.
CLASSIC := .classic
PYTHON310 ?= $(shell for python in python3.10 "$$(pyenv root 2> /dev/null)"/versions/3.10.*/bin/python; \
	do "$$python" --version > /dev/null 2>&1 && echo "$$python" && break; done)

test-classic: $(CLASSIC)/.installed
	$(CLASSIC)/bin/python -m pytest $(PYTEST_ARGS)

has-python310:
	@test -n "$(PYTHON310)" || { echo "No Python 3.10 is found: name one with PYTHON310=..."; exit 1; }

$(CLASSIC)/.installed: setup.py | has-python310
	@$(CLASSIC)/bin/python -m pip --version > /dev/null 2>&1 || rm -rf $(CLASSIC)
	@test -d $(CLASSIC) || $(PYTHON310) -m venv $(CLASSIC)
	$(CLASSIC)/bin/python -m pip install -e ".[test]"
	@touch $@

# Folders of libraries that take the place of the environment's own.
TRANSFORMERS5 := .transformers5
BENCHMARKS := .benchmarks
FUZZ := .fuzz

test-transformers5: $(TRANSFORMERS5)/.installed
	WITHOUT_ALLENNLP=1 PYTHONPATH=$(TRANSFORMERS5) $(BIN)/pytest $(PYTEST_ARGS) \
		tests/encoders tests/exits tests/calibration tests/tradeoff

benchmark-%: $(BENCHMARKS)/.installed
	PYTHONPATH=$(BENCHMARKS) $(BIN)/python -m benchmarks.$* $(ARGS)

fuzz-%: $(FUZZ)/.installed
	PYTHONPATH=$(FUZZ) $(BIN)/python -m fuzz.$* $(ARGS)

.PRECIOUS: .%/.installed
.%/.installed: requirements-%.txt | $(INSTALLED)
	rm -rf .$*
	$(BIN)/python -m pip install --no-deps --target .$* -r $<
	@touch $@

setup: $(INSTALLED)
	@echo "Ready: $(VENV). Next: make demo, or make test"

# The mark is written last: after an interruption, set-up goes on where it was.
$(INSTALLED): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): wanted Python 3.11 or 3.12."; \
		echo "Choose one with PYTHON=..., for example: make setup PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || rm -rf $(VENV)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-deps -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) $(CLASSIC) $(TRANSFORMERS5) $(BENCHMARKS) $(FUZZ) data runs
