# Thin: what these targets do stands in .ci/setup and in Rust.
CARGO ?= cargo
FEATURES ?=

.PHONY: run test check fmt bench bench-full bench-peers count count-update load deb fuzz clean help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: ## build in release mode and start a development server with its own devices
	@./.ci/setup run
	$(CARGO) build --release --bin tidegate
	exec ./target/release/tidegate serve --dev

test: ## the whole test suite, with third-party clients
	@./.ci/setup test
	CARGO=$(CARGO) ./tests/peers/build
	$(CARGO) build --workspace --all-targets $(FEATURES)
	$(CARGO) test --workspace $(FEATURES)
	TEST_DRIVER=mmsg $(CARGO) test --test server $(FEATURES)
	@$(MAKE) --no-print-directory count

check: ## formatting, lints, documentation, feature builds, licences
	@./.ci/setup build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) check --lib --no-default-features
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo "cargo-deny is not installed; licences are checked by tests/protocol (tidy) only"; fi

bench: ## measure everything in minutes, and write the table of targets to target/bench/table.md
	@./.ci/setup bench
	$(CARGO) build --release --workspace
	./target/release/tidegate-bench all

bench-full: ## the same for longer, with 200 000 and 1 000 000 sessions
	@./.ci/setup bench
	$(CARGO) build --release --workspace
	./target/release/tidegate-bench all --full

bench-peers: ## libcoap's and Californium's servers beside ours, under the same load
	@./.ci/setup bench
	$(CARGO) build --release --workspace
	./target/release/tidegate-bench peers

# Optimized, but on the dependencies that the tests are built on: a minute, not many.
COUNT = CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_INCREMENTAL=0 $(CARGO) build --workspace --bin tidegate-bench

count: ## instructions per datagram, against bench/instructions.json
	@./.ci/setup test
	$(COUNT)
	./target/debug/tidegate-bench count

count-update: ## write bench/instructions.json anew
	@./.ci/setup test
	$(COUNT)
	./target/debug/tidegate-bench count --update

load: ## put load on a development server that runs (make run)
	$(CARGO) run --release -p tidegate-loadgen -- --target coaps://127.0.0.1:5684 \
	  --scenario telemetry --devices 1000 --auth x509 --closed --duration 20s \
	  --admin http://127.0.0.1:5680

deb: ## a Debian package of the release build, in target/debian
	@./.ci/setup build
	$(CARGO) build --release --workspace
	./packaging/build-deb

fuzz: ## libFuzzer over what peers send, a minute for each target
	CARGO=$(CARGO) ./tests/fuzz/run

clean:
	$(CARGO) clean
