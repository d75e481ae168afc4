# podl: `make testnet` runs a local network, `make test` runs everything CI runs. Both set the machine up themselves.

CARGO      ?= cargo
BLOCKS     ?= 0
DATASET    ?= builtin
SCENARIO   ?= all
SEEDS      ?= 30
RECORDS    ?=
OUT        ?= study
ATTACKS    ?= range-overflow false-status twice-ready ghost-votes hollow-closings
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
PODL       := $(TARGET_DIR)/release/podl

.DEFAULT_GOAL := help
.PHONY: help setup build testnet test test-export memcheck bench-training study fmt lint direction deny unit doctest doc network attacks clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing to build (Debian/Ubuntu), or say what to install
	@bash scripts/setup.sh

build: setup ## build the podl program
	$(CARGO) build --release --locked --workspace --bins

testnet: build ## run a local network; BLOCKS=n stops after n blocks, DATASET=cifar10:DIR publishes that
	$(PODL) testnet up --nodes 4 --miners 3 --blocks $(BLOCKS) --dataset $(DATASET)

test: setup fmt lint direction deny unit test-export doctest network ## everything CI runs

fmt:
	$(CARGO) fmt --all --check

# All in the release profile: RocksDB is then built once for work, tests, lints and runs.
lint: setup
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

direction: setup
	@bash scripts/check-direction.sh

deny: ## licences, bans and sources of all dependencies
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; \
	else echo "deny: skipped, cargo-deny is not installed ('cargo install cargo-deny' brings it)"; fi

unit: setup
	@if command -v cargo-nextest >/dev/null; then $(CARGO) nextest run --release --locked --workspace; \
	else echo "unit: cargo-nextest is not installed, using cargo test"; $(CARGO) test --release --locked --workspace --lib --bins --tests; fi

test-export: setup ## exported models through the public QONNX executor; CIFAR10=DIR adds that data set
	@CARGO="$(CARGO)" bash scripts/test-export.sh

memcheck: setup ## the tests of the vector code under valgrind
	@CARGO="$(CARGO)" bash scripts/memcheck.sh

bench-training: setup ## training and scoring beside PyTorch, in turn; CIFAR10=DIR, PEER=pytorch_child.py
	@CARGO="$(CARGO)" bash scripts/bench-training.sh

study: build ## measurements of the pool, figures in OUT=folder; SEEDS=n, SCENARIO=name, RECORDS=file or made-up
	$(PODL) pool study --scenario $(SCENARIO) --seeds $(SEEDS) --out $(OUT) $(if $(RECORDS),--records $(RECORDS))

doctest: setup
	$(CARGO) test --release --locked --workspace --doc

doc: setup ## the API documentation, in the target folder
	$(CARGO) doc --release --locked --workspace --no-deps

network: build ## short real networks of separate processes: one in calm, one whose pool manager is killed, some under attack
	$(PODL) testnet up --nodes 4 --miners 3 --blocks 3 --json
	$(PODL) testnet attack manager-killed --json
	@for attack in $(ATTACKS); do $(PODL) testnet attack $$attack --json || exit 1; done

attacks: build ## every fault and attack on networks of real processes, some 40 minutes
	$(PODL) testnet attack all --json

clean:
	$(CARGO) clean
