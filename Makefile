# `make demo` and `make test` do everything on a fresh machine; `make help` lists the rest.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

# The lowest and the highest supported Python on this machine. The system's own is preferred to others of its version,
# because pyenv's builds are not optimized by default.
find_python = $(shell \
	for version in $(1); do \
		for python in "/usr/bin/python$$version" "python$$version" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/"$$version".*/bin/python; do \
			"$$python" -c 'import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$$version" 2>/dev/null \
				&& { echo "$$python"; exit; }; \
		done; \
	done)
LOWEST := $(call find_python,3.11 3.12 3.13)
HIGHEST := $(call find_python,3.13 3.12 3.11)

CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

# Tests start hundreds of programs, which should not compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait more than they compute; those in one file share what they start, so they stay together. Files run in order,
# as the slowest are not those with the most tests. Two versions of Python are tested at once.
PYTEST := -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# What is deployed is tested on both versions of Python, and what no version changes on one of them.
# On the lowest: the files that are deployed with it, and all words; decisions on a made-up clock, by the thousand; the
# local cloud, its console and the preview, which run there (on both, the stories start the cloud); the tests' own tools.
# On the highest, which is deployed: what measures the app; recipes in other languages; a storm of faults (`make chaos`
# raises one on the lowest); what libraries of C do with memory and with files by the hundred, all of which they read
# alike (on both, tests/cage/test_images.py has every kind of file, intact and damaged, and tests/image the rest).
without = $(1:%=--ignore-glob='tests/%*.py')
LOWEST_ALONE := test_docs test_makefile test_readme test_words test_schema infra/ test_simulation test_order test_chaos \
	test_local_ local_ test_console test_preview test_interrupts image/test_fuzz test_costs test_failures test_leaks
HIGHEST_ALONE := test_bench test_recipes test_storm cage/test_costly cage/test_limits image/test_memory \
	image/test_hostile image/test_integrity image/test_legality

.PHONY: help
help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: .venv/ready node_modules/ready ## drop a handful of images through the whole cloud on this machine
	.venv/bin/python -m local demo

.PHONY: up
up: .venv/ready node_modules/ready ## start the local cloud and keep it running until Ctrl-C
	.venv/bin/python -m local

.PHONY: test
test: ## run all tests on the lowest and highest supported Python on this machine
ifeq ($(LOWEST),$(HIGHEST))
test: .venv/dev node_modules/dev
	.venv/bin/python $(PYTEST)
	@echo "No other supported Python was found: the tests ran only on $(LOWEST)."
else
test: .venv/dev .venv-highest/dev node_modules/dev
	@$(MAKE) --no-print-directory --jobs 2 test-lowest test-highest
endif

.PHONY: test-lowest
test-lowest:
	.venv/bin/python $(PYTEST) $(call without,$(HIGHEST_ALONE)) | sed -u 's/^/lowest  | /'

.PHONY: test-highest
test-highest:
	.venv-highest/bin/python $(PYTEST) $(call without,$(LOWEST_ALONE)) | sed -u 's/^/highest | /'

.PHONY: chaos
chaos: .venv/dev node_modules/dev ## drop thousands of images for ten minutes while everything fails (SEED=n repeats a run)
	.venv/bin/python -m tools.chaos $(if $(SEED),--seed $(SEED))

# Separate from the other tests, because it needs a browser, which neither pip nor npm should install.
.PHONY: test-console
test-console: .venv/dev node_modules/dev ## test the console in a real browser (SCREENSHOTS=1 takes the docs' pictures)
	@test -x "$(CHROMIUM)" || { echo "Chromium is needed but was not found: run apt-get install chromium, or set CHROMIUM to its path." >&2; exit 1; }
	CHROMIUM="$(CHROMIUM)" .venv/bin/python -m pytest -m browser $(PYTEST_ARGS)

# Separate from the other tests, because it needs third-party tools: a gigabyte, in a folder of its own.
.PHONY: test-vendors
test-vendors: .venv/dev node_modules/dev .local/vendors/ready ## test the recipes and the schema with az, azcopy, rclone and generators
	PATH="$(CURDIR)/.local/vendors/bin:$$PATH" .venv/bin/python -m pytest -m vendors $(PYTEST_ARGS)

# Separate from the other tests, because it needs 300 MB of encoders and decoders.
.PHONY: test-matrix
test-matrix: .local/matrix/ready ## compare sent images with dropped ones, for every layout that other encoders write
	.local/matrix/venv/bin/python -m pytest tests/matrix $(PYTEST_ARGS)

.PHONY: docs
docs: .venv/dev ## generate the pages and pictures that are derived from the code
	.venv/bin/python -m tools.limits_and_errors
	.venv/bin/python -m tools.before_and_after

.PHONY: lint
lint: .venv/dev ## check style, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.PHONY: fuzz
fuzz: .venv/dev ## fuzz the image processing for ten minutes, guided by coverage (FUZZ_S=60 for one)
	.venv/bin/python -m tools.fuzz_normalize_image $(or $(FUZZ_S),600) .local/fuzz

.PHONY: bench
bench: .local/bench/ready node_modules/ready ## measure the app against its peers and limits (BENCH_ARGS="growth" for one benchmark)
	.local/bench/venv/bin/python -m benchmarks $(or $(BENCH_ARGS),--write)
	$(if $(BENCH_ARGS),,.local/bench/venv/bin/python -m benchmarks.simulation --write)

.PHONY: bench-image
bench-image: .local/bench/ready ## measure the image processing against its peers (BENCH_ARGS="--job shrink-jpeg" for one job)
	.local/bench/venv/bin/python -m benchmarks.image $(or $(BENCH_ARGS),--others --write)

.PHONY: clean
clean: ## remove everything that these targets have created
	rm -rf .venv .venv-highest node_modules benchmarks/node_modules .local .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# `ready` has what the local cloud needs, which is little; `dev` also has what tests and tools need.
.venv/ready: requirements-local.txt requirements.txt
	$(call install,$(LOWEST),.venv,$<)
	touch $@

.venv/dev: requirements-dev.txt requirements-local.txt requirements.txt
	$(call install,$(LOWEST),.venv,$<)
	touch .venv/ready $@

.venv-highest/dev: requirements-dev.txt requirements-local.txt requirements.txt
	$(call install,$(HIGHEST),.venv-highest,$<)
	touch $@

define install
	@test -n "$(1)" || { echo "Python 3.11, 3.12 or 3.13 is needed, but none was found." >&2; exit 1; }
	@echo "Installing $(3) into $(2):"
	@"$(1)" -m venv $(2)
	@$(2)/bin/python -m pip install --disable-pip-version-check -r $(3) \
		| awk '/^Collecting/ { sub(/[^[:alnum:]._-].*/, "", $$2); print "  " $$2; fflush() }'
endef

node_modules/ready: package.json package-lock.json
	$(call install_npm,--omit=dev)
	touch $@

node_modules/dev: package.json package-lock.json
	$(call install_npm)
	touch node_modules/ready $@

define install_npm
	@command -v npm >/dev/null || { echo "npm is needed for Azurite, but was not found: install Node.js." >&2; exit 1; }
	@echo "Installing package-lock.json into node_modules:"
	@npm ci --loglevel=error $(1)
endef

.local/vendors/ready: tests/vendors/install.sh tests/vendors/az.txt tests/vendors/generators.txt tests/vendors/package-lock.json
	bash tests/vendors/install.sh $(@D) "$(LOWEST)"

.local/matrix/ready: tests/matrix/requirements.txt requirements-dev.txt requirements-local.txt requirements.txt
	"$(HIGHEST)" -m venv .local/matrix/venv
	.local/matrix/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/matrix/requirements.txt
	touch $@

# Peers and photos are optional: the benchmark reports which were not available.
.local/bench/ready: benchmarks/requirements.txt requirements-dev.txt requirements-local.txt requirements.txt benchmarks/package-lock.json
	"$(HIGHEST)" -m venv .local/bench/venv
	.local/bench/venv/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	-npm ci --loglevel=error --prefix benchmarks
	mkdir -p .local/bench/photos
	-cd .local/bench/photos && apt-get download -q mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 \
		&& for package in *.deb; do dpkg -x "$$package" .; done
	touch $@
