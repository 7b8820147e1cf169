# make demo    set up .venv, draw the demo set, translate its test images with the weights that come with the project; then train
#              a small U-GAT-IT (or go on with that) and translate them with it
#              METHOD=cyclegan or METHOD=pix2pix: another method (no weights come with CycleGAN)
# make web     set up .venv, show a page in the browser that translates pictures with the models in weights/
# make test    set up .venv, run the tests
# make soak    trainings that are killed and resumed, and thousands of cases of bad input: an hour or two
# make lint    check format and style
#
# PYTHON=python3.12 make demo    use another Python (3.9 to 3.12)

PYTHON ?= python3
BIN := .venv/bin
METHOD ?= ugatit
DEMO := $(BIN)/python main.py --dataset portraits --method $(METHOD)
RUN := results/portraits/$(METHOD)
WEIGHTS := $(wildcard weights/portraits_$(METHOD))
WITH_WEIGHTS := $(RUN)/test_portraits_$(METHOD)

.PHONY: setup demo web test soak lint

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

.venv/notebook: .venv/ready
	$(BIN)/python -m pip install --quiet 'nbclient>=0.10,<1' 'ipykernel>=6,<8' || echo "without Jupyter: the test of the notebook is skipped"
	touch $@

.venv/web: .venv/ready requirements-web.txt
	$(BIN)/python -m pip install --quiet -r requirements-web.txt || echo "without Gradio: no page, and its tests are skipped"
	touch $@

demo: setup
ifneq ($(WEIGHTS),)
	$(DEMO) --phase test --checkpoint $(WEIGHTS)
	@echo
	@echo "1 of 2 done: the weights that come with the project have translated the test images: $(WITH_WEIGHTS)/contact_*.png"
	@echo "2 of 2: a small network is trained on this machine. That takes minutes; Ctrl-C stops it, and make demo goes on with it."
	@echo
endif
	$(DEMO) --phase train $$(ls $(RUN)/checkpoints/*/meta.json >/dev/null 2>&1 && echo --resume || echo --preset demo)
	$(DEMO) --phase test
	@echo
	@echo "Input, translation and true counterpart"
	@echo "  by the network trained here:             $(RUN)/test/contact_*.png"
ifneq ($(WEIGHTS),)
	@echo "  by the weights that come with the project: $(WITH_WEIGHTS)/contact_*.png"
endif
	@echo "Every step with its CAM heat map: grid_*.png beside them"
	@echo "How training went: $(RUN)/samples and $(RUN)/metrics.jsonl,"
	@echo "or in a browser:   $(BIN)/visualdl --logdir $(RUN)/log"

web: setup .venv/web
	$(BIN)/python main.py --phase serve

test: setup .venv/deploy .venv/notebook .venv/web
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

soak: setup .venv/deploy
	$(BIN)/python -m tools.soak
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/test_bad_input.py tests/test_bad_commands.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
