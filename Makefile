# make demo | test | slow | bench: each first sets up .venv, packages and data, if missing.
# make demo AIR=gnuradio: with GNU Radio's channel blocks between sender and receiver.

PYTHON := .venv/bin/python
READY := .venv/.ready
AIR := python

.PHONY: demo test slow bench
demo: $(READY) $(if $(filter gnuradio,$(AIR)),.venv/.gnuradio)
	$(PYTHON) sim/demo.py --air $(AIR)

test: $(READY)
	$(PYTHON) -m pytest -q

slow: $(READY)
	$(PYTHON) -m pytest -q -m slow || [ $$? = 5 ]  # 5: none is marked

bench: $(READY) .venv/.bench
	$(PYTHON) sim/bench.py

$(READY): pyproject.toml constraints.txt setup.sh
	sh setup.sh
	touch $@

.venv/.gnuradio: $(READY)
	sh setup.sh gnuradio
	touch $@

.venv/.bench: $(READY)
	$(PYTHON) -m pip install -q -c constraints.txt -e '.[bench]'
	touch $@
