# The commands of this repository. "make help" lists them.

.DEFAULT_GOAL := all

.PHONY: all
all: test lint ## Test and lint: what to run before a commit (the default).

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Flags: make test ARGS='-run Registry -v'; make lint ARGS=--fix; make microbench ARGS=./codec"

.PHONY: setup
setup: ## Install what the tests need beyond Go (chromium, protoc, ...), where missing.
	@scripts/setup

.PHONY: test
test: setup ## Run the tests of every module, the root's with the race detector.
	@scripts/test $(ARGS)

.PHONY: lint
lint: ## Run golangci-lint over every module.
	@scripts/lint $(ARGS)

.PHONY: bench
bench: ## Measure every table of docs/performance.md and draw docs/img (a quarter of an hour; ARGS="-rounds 1 -d 100ms" for a look).
	cd bench && go run . tables -svg ../docs/img $(ARGS)

.PHONY: microbench
microbench: ## Run the micro-benchmarks.
	go test -run=NONE -bench=. -benchmem $(or $(ARGS),./...)

.PHONY: scenarios
scenarios: ## Play outages with real programs and write docs/scenarios.md (half an hour; flags as for go test in ARGS).
	cd integration && go test ./scenarios -run Real -full -update -timeout 2h -v $(ARGS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for 10 s (ARGS=60 for 60 s).
	@scripts/fuzz $(ARGS)

.PHONY: generate
generate: setup ## Generate the code that comes from .proto files.
	@scripts/generate

.PHONY: check-generated
check-generated: setup ## Fail if generated code is not what its sources give.
	@scripts/generate --check

.PHONY: tidy
tidy: ## Run go mod tidy in every module.
	@for dir in $$(scripts/modules --all); do (cd $$dir && go mod tidy) || exit 1; done

.PHONY: check-tidy
check-tidy: ## Fail if a go.mod is not tidy.
	@for dir in $$(scripts/modules --all); do (cd $$dir && go mod tidy -diff) || { echo "module $$dir: run make tidy" >&2; exit 1; }; done

.PHONY: cross
cross: ## Build for Linux, macOS and Windows, amd64 and arm64, without cgo.
	@scripts/cross

.PHONY: demo
demo: ## Run the demo: two services and a page with buttons that break them.
	go run ./cmd/hull demo $(ARGS)
