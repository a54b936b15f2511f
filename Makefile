# Commands for developers. `make` alone lists them.

# Evaluated only when something is installed.
PYTHON ?= $(eval PYTHON := $(shell deploy/choose_python python3 /usr/bin/python3))$(PYTHON)
VENV := .venv
RUN := $(VENV)/bin
UV_VERSION := 0.13.8
STAMP := $(VENV)/.installed
WORKERS ?= 2
SEED ?= 1
MINUTES ?= 1
SECONDS ?= 10
# Not in the lock file: the right build depends on the machine. To choose one: make setup TORCH="torch==2.13.0 --index-url …"
# The hash of torch is not checked.
TORCH ?= torch==2.13.0
# Compiles a lock file: all versions pinned, a SHA-256 for each file, no registry URLs.
COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url
# Settings of a public site, for Django's deployment checks.
DEPLOYED := IPAU_BASE_URL=https://example.org ALLOWED_HOSTS=example.org \
	SECRET_KEY=checked-but-never-used-checked-but-never-used-0123456789
BROWSERS := /usr/bin/chromium $(shell command -v chromium chromium-browser google-chrome 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-fast test-alone lint check bench chaos neighbors train-demo docs lock chromium nginx bubblewrap format clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP) ## Install all dependencies into .venv (does nothing if they are up to date)

# The lock file has everything except torch, so no dependency is resolved: only files with a known hash are installed.
# Packages are compiled here, because PYTHONDONTWRITEBYTECODE would make each process compile them again.
# torch comes last. Its dependencies, except the CUDA packages, are installed by then with their hashes checked.
$(STAMP): requirements.lock deploy/uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "IPAU needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@$(RUN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r deploy/uv.lock
	$(RUN)/uv pip install --quiet --compile-bytecode --python $(RUN)/python --no-deps --require-hashes -r requirements.lock
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

up: setup ## Run the whole site on this machine (ARGS="--port 8000")
	@$(RUN)/python manage.py up $(ARGS)

demo: setup ## Run the site with a demo account, images and models (ARGS="--once")
	@$(RUN)/python manage.py demo $(ARGS)

test: setup chromium nginx bubblewrap check ## Run all checks and tests
	$(RUN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-fast: setup ## Run only the quick tests: no browser, workers, conversions or faults (minutes)
	$(RUN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

test-alone: setup ## Run the chaos and overload tests of a whole site, one by one (minutes)
	$(RUN)/python -m pytest -m alone $(ARGS)

lint: setup ## Check style, types and import contracts (seconds)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy .
	$(RUN)/lint-imports
	$(RUN)/djlint --quiet --lint .

check: lint ## Run lint, and check deployment settings, migrations and security
	$(DEPLOYED) $(RUN)/python manage.py check --deploy --fail-level WARNING
	$(DEPLOYED) $(RUN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(RUN)/bandit --quiet --recursive --severity-level medium --configfile pyproject.toml .
	$(RUN)/python -m pip check

bench: setup ## Run benchmarks (NAME=op runs those with names that start with "op")
	@$(RUN)/python -m tests.benchmarks $(NAME)

chaos: setup ## Inject random faults into a whole site (SEED=1 MINUTES=1)
	@$(RUN)/python -W ignore -m tests.chaos --seed $(SEED) --minutes $(MINUTES)

neighbors: setup ## Overload a site with one account and time the requests of another (SECONDS=10)
	@$(RUN)/python -W ignore -m tests.neighbors --seconds $(SECONDS)

train-demo: setup ## Train the demo models again (NAME=double-size trains only that one)
	@$(RUN)/python -m deploy.train_demo $(NAME)

docs: setup ## Generate the reference pages and build the documentation into build/docs
	@$(RUN)/python -m deploy.reference_pages
	@NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --quiet --strict --site-dir build/docs

format: setup ## Format code and templates
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .
	$(RUN)/djlint --quiet --reformat . || true

lock: setup ## Resolve pyproject.toml into requirements.lock, with hashes
	@echo 'torch ; python_version < "3"' > $(VENV)/without-torch.txt
	$(RUN)/$(COMPILE) --all-extras pyproject.toml --override $(VENV)/without-torch.txt -o requirements.lock
	@echo 'uv==$(UV_VERSION)' > $(VENV)/uv.txt
	$(RUN)/$(COMPILE) --no-deps $(VENV)/uv.txt -o deploy/uv.lock

# The browser tests use the system's Chromium. Install it if we are root on Debian.
chromium:
	@for browser in $(BROWSERS); do test -x "$$browser" && exit 0; done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; \
	else \
		echo "No Chromium found: the browser tests will fail. Install it, on Debian: apt-get install chromium" >&2; \
	fi

# The tests of deploy/nginx need a real nginx. Some systems start it after the installation, so stop it.
nginx:
	@test -x /usr/sbin/nginx || command -v nginx >/dev/null || { \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nginx && \
		{ ! test -d /run/systemd/system || systemctl disable --now --quiet nginx; }; \
	else \
		echo "No nginx found: the tests of deploy/nginx will fail. Install it, on Debian: apt-get install nginx" >&2; \
	fi; }

# Conversions are tested with and without bubblewrap.
bubblewrap:
	@command -v bwrap >/dev/null || { \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends bubblewrap; \
	else \
		echo "No bubblewrap found: its tests are skipped. Install it, on Debian: apt-get install bubblewrap" >&2; \
	fi; }

clean: ## Remove caches (not the data folder)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
