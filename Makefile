# Every target is usable from a fresh clone: what it needs, `setup` brings first.
.DEFAULT_GOAL := help
.PHONY: help setup test-setup bench-setup prove-setup dist-setup demo serve test check bench prove dist

HARNESS := web-harness
# Outside dist, because all of dist is embedded in the binary.
HARNESS_BUILT := $(HARNESS)/node_modules/.weft-built
HARNESS_INSTALLED := $(HARNESS)/node_modules/.package-lock.json
PLAYWRIGHT := tests/bench/playwright
PLAYWRIGHT_INSTALLED := $(PLAYWRIGHT)/node_modules/.package-lock.json
TRANSFORMERS := tests/bench/transformers
TRANSFORMERS_INSTALLED := $(TRANSFORMERS)/node_modules/.package-lock.json
CONTENT := tests/clients/content
CONTENT_INSTALLED := $(CONTENT)/node_modules/.package-lock.json
HARNESS_SOURCES := $(shell find $(HARNESS) \( -name node_modules -o -name dist \) -prune -o -type f -print)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## bring what a build needs: packages, native libraries, browsers, models, the page's bundle
	@.setup/setup.sh
	@$(MAKE) --no-print-directory $(HARNESS_BUILT)

test-setup:
	@.setup/setup.sh tests
	@$(MAKE) --no-print-directory $(HARNESS_BUILT) $(CONTENT_INSTALLED)

bench-setup:
	@.setup/setup.sh bench
	@$(MAKE) --no-print-directory $(HARNESS_BUILT)

prove-setup:
	@.setup/setup.sh prove
	@$(MAKE) --no-print-directory $(HARNESS_BUILT) $(CONTENT_INSTALLED)

dist-setup:
	@.setup/setup.sh dist
	@$(MAKE) --no-print-directory $(HARNESS_BUILT)

demo: setup ## start the daemon, send real requests over its WebSocket, print what came out
	cargo build --locked
	cargo run --locked --quiet --example demo

serve: setup ## run the daemon in the foreground
	cargo run --locked -- serve

test: check ## every test: Rust, TypeScript, real browsers
	cd $(HARNESS) && npm test
	cargo nextest run --locked

check: test-setup ## formatting, lints and types, without running tests
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cd $(HARNESS) && npm run check

bench: bench-setup $(PLAYWRIGHT_INSTALLED) $(TRANSFORMERS_INSTALLED) ## measure against echoes, loops, Playwright and Python, raw samples kept
	cargo build --locked --release
	cargo run --locked --quiet --release --example bench

prove: prove-setup ## a step's full matrix, in resumable slices
	cargo nextest run --locked --profile prove --run-ignored only -E 'binary(/^browsers$$/) + test(/^chaos::prove::/) + test(/^cells::/) + test(/^plans::slices::/) + test(/^foreign::prove::/) + test(/^bench::tests::archive::ten_million/)'

dist: dist-setup ## pack a release build with its libraries, recipes and suites into dist/, which runs wherever it is unpacked
	cargo build --locked --release
	python3 .setup/dist.py dist

$(PLAYWRIGHT_INSTALLED): $(PLAYWRIGHT)/package.json $(PLAYWRIGHT)/package-lock.json
	cd $(PLAYWRIGHT) && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

$(TRANSFORMERS_INSTALLED): $(TRANSFORMERS)/package.json $(TRANSFORMERS)/package-lock.json
	cd $(TRANSFORMERS) && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

$(CONTENT_INSTALLED): $(CONTENT)/package.json $(CONTENT)/package-lock.json
	cd $(CONTENT) && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

$(HARNESS_INSTALLED): $(HARNESS)/package.json $(HARNESS)/package-lock.json
	cd $(HARNESS) && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

# Whoever deleted dist wants it built again, whatever the stamp says.
ifeq ($(wildcard $(HARNESS)/dist),)
.PHONY: $(HARNESS_BUILT)
endif
$(HARNESS_BUILT): $(HARNESS_INSTALLED) $(HARNESS_SOURCES)
	cd $(HARNESS) && npm run build
	@touch $@
