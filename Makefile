# make demo    set up .venv, draw the demo set, train a small U-GAT-IT on it, translate its test images
# make test    set up .venv, run the tests
# make lint    check format and style
#
# PYTHON=python3.12 make demo    use another Python (3.9 to 3.12)

PYTHON ?= python3
BIN := .venv/bin
RUN := results/portraits/ugatit
# Small networks, a high rate and a light CAM loss: what gets furthest in three minutes.
DEMO := --light --img_size 64 --n_dis 4 --ch 16 --n_res 2 --lr 0.001 --cam_weight 10 --iteration 1000 --print_freq 200

.PHONY: setup demo test lint

setup: .venv/ready

.venv/ready: requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 9) <= v <= (3, 12) else "Python 3.9 to 3.12 is needed, this is %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

demo: setup
	test -d dataset/portraits || $(BIN)/python -m tools.draw_demo_data --out dataset/portraits --size 64
	$(BIN)/python main.py --dataset portraits --phase train $(DEMO) --resume
	$(BIN)/python main.py --dataset portraits --phase test
	@echo
	@echo "Above each translation its input: $(RUN)/test/contact_A2B.png and contact_B2A.png"
	@echo "How training went: $(RUN)/samples, or in a browser: $(BIN)/visualdl --logdir $(RUN)/log"

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
