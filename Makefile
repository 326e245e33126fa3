# Two commands do everything on a bare Python 3.11 or later: `make report` and `make test`.
# `make test-slow` runs the tests that `make test` leaves out because each takes more than ten seconds.
# `make fuzz` runs those that make up their inputs, with more than ten thousand inputs, other ones each time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := runs
REPORT := $(RUNS)/report/index.html
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} $(BIN)/python -m pytest -n 2
# Compiling every installed file takes longer than everything that is imported here.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: report test test-slow fuzz lint clean

report: $(REPORT)
	@echo "report: $(CURDIR)/$(REPORT)"

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow

fuzz: $(VENV)/.installed-test
	UNROLLED_FUZZ=1 $(PYTEST) tests/unrolled/test_score_properties.py tests/unrolled/test_damaged.py \
		tests/unrolled/test_hostile_data.py tests/probes/test_foreign_folders.py tests/theory/test_bound.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/pyright

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "PYTHON: %s is Python %d.%d; accepted is 3.11 or later" % (sys.executable, *sys.version_info[:2]))'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.installed

# A run that was interrupted goes on where its checkpoint stands.
$(RUNS)/%/done: | $(VENV)/.installed
	@mkdir -p $(RUNS)/$*
	if [ -f $(RUNS)/$*/run.pt ]; then $(BIN)/python -m unrolled.train --resume $(RUNS)/$*/run.pt; \
	else $(BIN)/python -m unrolled.train --preset $* --out $(RUNS)/$*/run.pt; fi
	@touch $@

$(REPORT): $(RUNS)/quick/done $(RUNS)/weather/done
	$(BIN)/python -m reports.build --ckpt $(RUNS)/quick/run.pt --ckpt $(RUNS)/weather/run.pt --out $(RUNS)/report

.PRECIOUS: $(RUNS)/%/done

clean:
	rm -rf $(VENV) $(RUNS)
