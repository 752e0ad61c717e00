# Every target does the set-up that it needs, once: a virtual environment in .venv with the versions of constraints.txt.
#
#   make demo     learn to read digits without labels            make test     lint, types and tests
#   make claims   every paper's claim, into results/             make readme   the generated parts of README and docs
#   make vit_suite   nineteen methods compared on digits, into results/compare/ and docs/methods/vit_suite.md
#   make bench    speed on this machine's processor against the peers, into benchmarks/ and docs/speed.md
#
# PYTHON=python3.12 chooses the interpreter of the environment, WORKERS=4 the processes of the tests.

# The first of these that is new enough; looked up only when the environment is made.
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,$(if $(shell $(p) -c '$(NEW_ENOUGH)' 2>&1 || echo no),,$(p))))
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
WORKERS ?= 2
COMPILED := import lightning, timm, transformers, datasets, onnxscript, onnxruntime, sklearn.linear_model, torch.utils.tensorboard, matplotlib.pyplot, autodidact.sklearn, autodidact.training.run
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
PEERS := 'lightly==1.6.0' 'kornia==0.9.0' 'stable-pretraining==0.1.8'
BENCHES ?= $(basename $(notdir $(filter-out %/common.py,$(sort $(wildcard benchmarks/*.py)))))
# uv installs several times faster than pip; pip steps in where uv does not reach the package index that pip is set up for.
install = $(BIN)/uv pip install --python $(1)/bin/python --constraint constraints.txt --build-constraint constraints.txt --editable $(2) || \
	$(1)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable $(2)
# Compiled once, here: where PYTHONDONTWRITEBYTECODE is set, every process would compile all of this anew.
compile = PYTHONDONTWRITEBYTECODE= $(1)/bin/python -W ignore -c "$(COMPILED)"
CLAIMS = $(sort $(basename $(notdir $(shell grep -l '^CLAIM = ' src/autodidact/claims/*.py))))
SUITE_ENCODER := small:vit?width=64&depth=4&heads=4&patch=4&registers=1

.PHONY: demo test lint format types claims vit_suite readme bench lock clean

demo: $(READY)
	$(BIN)/autodidact demo

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY)
	$(BIN)/mypy

claims: $(READY)
	set -e; for name in $(CLAIMS); do $(BIN)/autodidact claim $$name --json results/$$name.json; done
	$(BIN)/python -m autodidact.catalog.readme

# The survey's nineteen methods on digits, into a stored table.
vit_suite: $(READY)
	$(BIN)/autodidact compare --data digits --methods vit_suite --image-size 16 --encoder '$(SUITE_ENCODER)' \
		--tokens 1000000 --batch-size 64 --seeds 3 --out runs/vit_suite --json results/compare/vit_suite.json
	$(BIN)/python -m autodidact.catalog.readme

readme: $(READY)
	$(BIN)/python -m autodidact.catalog.readme

# Peers live in an environment of their own, which only the scripts that import one run in: a package can hook itself
# into every training of its environment. All scripts together take hours; BENCHES="views epoch" names some. One that
# fails, for want of its data say, does not keep the others from running, and is named at the end.
bench: $(BENCH)/.ready
	@failed=; for name in $(BENCHES); do echo $$name; \
	if grep -qE 'from (lightly|kornia)' benchmarks/$$name.py; then in=$(BENCH); else in=$(VENV); fi; \
	(cd benchmarks && ../$$in/bin/python $$name.py --json $$name.json) || failed="$$failed $$name"; done; \
	$(BIN)/python -m autodidact.catalog.readme || failed="$$failed readme"; \
	test -z "$$failed" || { echo "these failed, each said why above:$$failed"; exit 1; }

$(BENCH)/.ready: $(READY)
	$(BIN)/python -m venv --clear $(BENCH)
	$(call install,$(BENCH),'.[dev]' $(PEERS))
	$(call compile,$(BENCH))
	touch $@

$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'autodidact needs Python 3.11 or 3.12; name one: make PYTHON=/path/to/python $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo '$(PYTHON) is too old, autodidact needs Python 3.11 or 3.12'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(call install,$(VENV),'.[dev]')
	$(call compile,$(VENV))
	touch $@

# Newest versions that pyproject.toml allows, for every platform and Python from 3.11.
lock: $(READY)
	printf 'uv\nhatchling\neditables\ntorch==2.12.1\ntorchvision==0.27.1\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file constraints.txt pyproject.toml -

clean:
	rm -rf $(VENV) $(BENCH) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
