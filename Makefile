# make demo | test | slow | bench: each sets everything up first (.venv, packages, data) and is quick once all is there.

PYTHON := .venv/bin/python
READY := .venv/.ready

.PHONY: demo test slow bench
demo: $(READY)
	$(PYTHON) sim/demo.py

test: $(READY)
	$(PYTHON) -m pytest -q

slow: $(READY)
	$(PYTHON) -m pytest -q -m slow || [ $$? = 5 ]  # 5: none is marked

bench: $(READY) .venv/.bench
	$(PYTHON) sim/bench.py

$(READY): pyproject.toml constraints.txt setup.sh
	sh setup.sh
	touch $@

.venv/.bench: $(READY)
	$(PYTHON) -m pip install -q -c constraints.txt -e '.[bench]'
	touch $@
