# make demo | lab | test | slow | bench: each first sets up .venv, packages and data, if missing.
# make demo AIR=gnuradio: with GNU Radio's channel blocks between sender and receiver.

PYTHON := .venv/bin/python
READY := .venv/.ready
AIR := python

.PHONY: demo lab test slow bench
demo: $(READY) $(if $(filter gnuradio,$(AIR)),.venv/.gnuradio)
	$(PYTHON) sim/demo.py --air $(AIR)

lab: $(READY) .venv/.compiled
	$(PYTHON) sim/lab.py

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto --maxprocesses 4 --dist loadfile

slow: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -m 'slow and not alone' -n auto --maxprocesses 4 --dist worksteal
	$(PYTHON) -m pytest -q -m 'slow and alone'

bench: $(READY) .venv/.bench
	$(PYTHON) sim/bench.py

$(READY): pyproject.toml constraints.txt setup.sh
	sh setup.sh
	touch $@

# the numerical kernels, compiled and kept: half a minute, once
.venv/.compiled: $(READY)
	$(PYTHON) sim/loopback.py --model fashion --preset room --cfo-hz 1e4 --doppler-hz 1 --evaluate none >/dev/null
	touch $@

.venv/.gnuradio: $(READY)
	sh setup.sh gnuradio
	touch $@

.venv/.bench: $(READY)
	$(PYTHON) -m pip install -q -c constraints.txt -e '.[bench]'
	touch $@
