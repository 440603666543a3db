# make demo: train on built-in scenes for a minute or two, then fuse a pair never seen. make test: the whole suite.
# make lint: style, layers, types. make docs: the site with guides and reference, in site/.
# make site: the same and, in site/fuse/, the page that fuses in the browser; make serve shows it. Needs npm.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A GPU machine is one whose driver answers.
REQUIREMENTS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)

.PHONY: demo test lint docs site serve clean

$(BIN)/.installed: requirements.txt requirements-cpu.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS) -r requirements-dev.txt
	touch $@

demo: $(BIN)/.installed
	@test -d demo/run || $(BIN)/python train.py --task meie --preset quick --out demo/run
	@test -d demo/pair || $(BIN)/python -m refusion_jax scenes --task meie --seed 2026 --start 8 --count 1 --size 384x512 --out demo/pair
	@$(BIN)/python fuse.py --ckpt demo/run --pair demo/pair/*/*_A.png demo/pair/*/*_B.png --out demo/fused.png --maps
	@echo "the fused picture: demo/fused.png (its sources: demo/pair; training previews: demo/run/previews)"

# The runtime of that page, at the version of web/package-lock.json.
web/node_modules: web/package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --prefix web
	touch $@

test: $(BIN)/.installed
	@{ command -v npm && $(MAKE) web/node_modules; } >/dev/null || echo "no npm, or no packages from it: the tests of the browser page skip"
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --pythonpath $(BIN)/python

# The notebook as a page, with what it shows: run anew when it has changed. It trains for two minutes.
docs/tour.md: examples/tour.ipynb | $(BIN)/.installed
	PYTHONPATH=$(CURDIR) $(BIN)/jupyter-nbconvert --log-level ERROR --execute --to markdown --output-dir docs $<

docs: $(BIN)/.installed docs/tour.md
	$(BIN)/zensical build --clean --strict
	@echo "the site: site/index.html"

site: docs web/node_modules
	$(BIN)/python web/build.py site/fuse
	@echo "the page: site/fuse/index.html (make serve shows it)"

serve: site
	$(BIN)/python web/serve.py site

clean:
	rm -rf $(VENV) demo site .cache web/node_modules docs/tour.md docs/tour_files
