# make demo    set up .venv, draw the demo set, train a small U-GAT-IT on it (or go on with that), translate its test images
#              METHOD=cyclegan or METHOD=pix2pix: another method
# make web     set up .venv, show a page in the browser that translates pictures with the models in weights/
# make test    set up .venv, run the tests
# make lint    check format and style
#
# PYTHON=python3.12 make demo    use another Python (3.9 to 3.12)

PYTHON ?= python3
BIN := .venv/bin
METHOD ?= ugatit
DEMO := $(BIN)/python main.py --dataset portraits --method $(METHOD)
RUN := results/portraits/$(METHOD)

.PHONY: setup demo web test lint

setup: .venv/ready

.venv/ready: requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 9) <= v <= (3, 12) else "Python 3.9 to 3.12 is needed, this is %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

# Beside the rest: where a package has no build for the platform, its tests are skipped.
.venv/deploy: .venv/ready requirements-deploy.txt
	$(BIN)/python -m pip install --quiet -r requirements-deploy.txt || echo "without ONNX Runtime and OpenVINO: their tests are skipped"
	touch $@

.venv/web: .venv/ready requirements-web.txt
	$(BIN)/python -m pip install --quiet -r requirements-web.txt || echo "without Gradio: no page, and its tests are skipped"
	touch $@

demo: setup
	$(DEMO) --phase train $$(ls $(RUN)/checkpoints/*/meta.json >/dev/null 2>&1 && echo --resume || echo --preset demo)
	$(DEMO) --phase test
	@echo
	@echo "Input, translation and true counterpart: $(RUN)/test/contact_*.png"
	@echo "Every step with its CAM heat map:        $(RUN)/test/grid_*.png"
	@echo "How training went: $(RUN)/samples and $(RUN)/metrics.jsonl,"
	@echo "or in a browser:   $(BIN)/visualdl --logdir $(RUN)/log"

web: setup .venv/web
	$(BIN)/python main.py --phase serve

test: setup .venv/deploy .venv/web
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
