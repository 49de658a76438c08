# Everything a person or a machine does with this repository.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tools of this checkout only; nothing is installed into the system or the user's home.
TOOLS := .cache/tools
CARGO_DENY_VERSION := 0.20.2

.PHONY: help run test soak overload lint contract fuzz conform audit bench bench-edge bench-feed bench-import bench-ledger bench-campaign bench-events instructions memcheck

help:
	@echo 'make run      build and start Campanile on SQLite with a demo app and a first notification'
	@echo 'make test     every check and test, on SQLite and PostgreSQL; installs what it needs'
	@echo 'make soak     kill processes under load 200 times per database and take the database away for long, and compare'
	@echo 'make fuzz     many more random requests through both doors than make test sends'
	@echo 'make overload ten times the callers of a release build for a minute, on both databases'
	@echo 'make conform  every operation of the OpenAPI document against a server, by schemathesis'
	@echo 'make lint     formatting, clippy, and the contract against its rules and its baseline'
	@echo 'make audit    licences, sources and duplicates of all dependencies'
	@echo 'make bench    build for release and measure everything, which takes about an hour and a half'
	@echo 'make bench-edge    measure calls without a database, and the start'
	@echo 'make bench-import  measure imports on both databases, which takes about a quarter of an hour'
	@echo 'make bench-feed    measure feeds on PostgreSQL and SQLite, which takes about twenty minutes'
	@echo 'make bench-ledger  measure durable sends on PostgreSQL and SQLite, which takes about eight minutes'
	@echo 'make bench-campaign  measure campaigns on PostgreSQL and SQLite, which takes about half an hour'
	@echo 'make bench-events    measure what users do with their items, which takes about four minutes'
	@echo 'make instructions  count what one call costs, which no load of the machine disturbs'
	@echo 'make memcheck run the release build under valgrind'

run:
	cargo build --locked
	node clients/demo.mjs target/debug/campanile

test:
	tests/setup/run.sh

soak:
	tests/setup/soak.sh

lint: contract
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

contract: node_modules
	npm run --silent lint
	npm run --silent breaking
	npm run --silent openapi

# FUZZ_CASES requests for each test; on PostgreSQL too where CAMPANILE_TEST_POSTGRES_URL names one.
FUZZ_CASES ?= 200000
fuzz:
	CAMPANILE_TEST_FUZZ_CASES=$(FUZZ_CASES) cargo test --locked --test it -- fuzz::

# Quiet cores, or the latencies mean nothing.
overload:
	cargo build --locked --release
	tests/setup/overload.sh target/release/campanile

conform:
	cargo build --locked
	tests/setup/conform.sh

audit: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --config .deny.toml --locked check licenses bans sources

bench: bench-edge bench-ledger bench-feed bench-campaign bench-import bench-events

bench-edge:
	cargo build --locked --release
	cargo build --locked
	tests/setup/release.sh target/release/campanile target/debug/campanile
	node benches/start.mjs target/release/campanile
	node benches/edge.mjs

bench-feed:
	cargo build --locked --release
	node benches/feed.mjs target/release/campanile

bench-import:
	cargo build --locked --release
	node benches/import.mjs target/release/campanile

# PAIRS=n for more or fewer than 15.
bench-ledger:
	cargo build --locked --release
	node benches/ledger.mjs --pairs $(or $(PAIRS),15) target/release/campanile

bench-campaign:
	cargo build --locked --release
	node benches/campaign.mjs fanout target/release/campanile
	node benches/campaign.mjs whole target/release/campanile
	node benches/campaign.mjs age target/release/campanile

bench-events:
	cargo build --locked --release
	node benches/events.mjs target/release/campanile

instructions:
	node benches/instructions.mjs

memcheck:
	cargo build --locked --release
	tests/setup/memcheck.sh target/release/campanile

node_modules: package-lock.json
	npm ci --no-audit --no-fund --silent
	@touch node_modules

$(TOOLS)/bin/cargo-deny:
	cargo install --locked --root $(TOOLS) --version $(CARGO_DENY_VERSION) cargo-deny
