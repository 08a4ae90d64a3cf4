# bmad-mcp: every target installs what it needs into .venv, from the locked dependencies.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8770
# Files of tests run side by side, each worker on a PostgreSQL of its own; an external one is not shared.
# Four also on two cores: many tests wait for a process, a lock or a time to pass.
AT_ONCE := $(if $(BMAD_TEST_DATABASE_URL),,-n 4 --dist loadfile)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types imports soak fuzz bench lock wheel docs dist demo clean python-found

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

run: $(VENV)/run.ok ## start the server at http://127.0.0.1:8770 with a sample project (PORT=… for another port)
	@folder="$$($(BIN)/python -m bmad_mcp.commands.sample_copy)" && $(BIN)/bmad-mcp import "$$folder" --project tidepool
	@exec $(BIN)/bmad-mcp --project tidepool serve --http --port $(PORT)

demo: $(VENV)/run.ok ## watch four agents play a sprint over real MCP connections
	@$(BIN)/bmad-mcp demo

test: $(VENV)/dev.ok ## run the tests on a real PostgreSQL (the embedded one, or BMAD_TEST_DATABASE_URL)
	@$(BIN)/python -m pytest $(AT_ONCE)

check: $(VENV)/dev.ok lint types imports test ## format, lint, types, import contract and tests

lint: $(VENV)/dev.ok
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

format: $(VENV)/dev.ok ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

types: $(VENV)/dev.ok
	@$(BIN)/mypy

imports: $(VENV)/dev.ok
	@$(BIN)/lint-imports --no-cache

# ONLY= takes words of pytest's -k, so that one file, test or subject can be run for itself.
soak: $(VENV)/dev.ok ## run the slow tests, hours of them; ONLY=endurance (2 h) or ONLY=claim_races for some
	@echo "The slow tests$(if $(ONLY), of '$(ONLY)',: some hours; for 2 h of endurance ONLY=endurance, for 10,000 races ONLY=claim_races)"
	@BMAD_TEST_EXAMPLES=new $(BIN)/python -m pytest -m 'soak or hypothesis' $(if $(ONLY),-k '$(ONLY)')

fuzz: $(VENV)/dev.ok ## fuzz the readers and the framing with atheris, SECONDS=1800 for each target
	@$(PIP) install 'atheris>=3,<4'
	@for target in framing stdio yaml yaml_edit cursor project; do \
		$(BIN)/python tests/fuzz/run.py $$target $(or $(SECONDS),1800) || exit 1; done

bench: $(VENV)/dev.ok ## measure this server beside the bare SDK, bare asyncpg, other servers, and ill memory services
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.bad_services

wheel: $(VENV)/dev.ok ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation

docs: $(VENV)/dev.ok ## build the pages as a site, into dist/site
	@$(BIN)/python -m mkdocs build --strict --quiet --site-dir dist/site

dist: $(VENV)/dev.ok ## build what a release has: sdist, wheel, MCP bundle and bill of materials, into dist/
	@rm -rf dist && $(BIN)/python -m build --no-isolation
	@$(BIN)/python release/bundle.py dist
	@$(BIN)/python release/bill_of_materials.py dist

lock: ## renew the locked dependencies (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		pyproject.toml --extra dev -o requirements-dev.lock
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		pyproject.toml requirements-build.in -c requirements-dev.lock -o requirements.lock

clean: ## remove the environment and what the tools left behind
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

python-found:
	@test -n "$(PYTHON)" || { echo "bmad-mcp needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }

# An environment that a stopped install left half made is made again.
$(VENV)/run.ok: requirements.lock pyproject.toml | python-found
	@test -x $(BIN)/python && $(BIN)/python -c pass 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "Installing the locked dependencies into $(VENV) (once; about half a minute) …"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.ok: requirements-dev.lock $(VENV)/run.ok
	@echo "Installing the locked development tools into $(VENV) (once) …"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@
