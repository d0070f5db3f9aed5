# The targets a developer and CI use. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -X github.com/ocfuse/ocfuse/cmd/ocfuse/command.Version=$(VERSION)
PKG     ?= ./...
SEEDS   ?= 2000
FUZZTIME ?= 10000x

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { split($$1, n, ":"); printf "  %-12s %s\n", n[1], $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what building and testing need (apt; root)
	@scripts/setup.sh

.PHONY: build
build: ## build bin/ocfuse
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ocfuse ./cmd/ocfuse

PREFIX ?= /usr/local

.PHONY: install
install: build man ## install below PREFIX (/usr/local), and the helper of mount(8) in /sbin
	install -D -t $(DESTDIR)$(PREFIX)/sbin bin/ocfuse
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 bin/man/*.8
	install -d $(DESTDIR)/sbin
	ln -sf $(PREFIX)/sbin/ocfuse $(DESTDIR)/sbin/mount.fuse.ocfuse

.PHONY: demo
demo: setup build ## three nodes on this machine, one is killed (needs /dev/fuse)
	@bin/ocfuse demo

.PHONY: test
test: setup ## set up and run all tests (PKG=./dir/... for some)
	go test -count=1 -p 2 -timeout 15m $(PKG)

.PHONY: check
check: ## formatting, go vet, staticcheck, and the project's own rules
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt-ed: $$bad"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test ./integration/tidy

.PHONY: race
race: setup ## run all tests with the race detector
	go test -race -p 2 -timeout 30m $(PKG)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10000x)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

.PHONY: sim
sim: ## run the simulations with SEEDS (2000) seeds each
	@SEEDS=$(SEEDS) scripts/sim.sh

.PHONY: bench
bench: setup ## run the Go benchmarks
	go test -run '^$$' -bench . -benchmem $(PKG)

.PHONY: man
man: ## write the manual pages into bin/man
	@mkdir -p bin
	go run -ldflags '$(LDFLAGS)' ./cmd/ocfuse man bin/man

.PHONY: kernelpeer
kernelpeer: ## install what the tests against a real Linux kernel need (apt; root)
	@scripts/setup-kernelpeer.sh

.PHONY: clean
clean: ## remove what the targets made
	rm -rf bin
