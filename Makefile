# make test   installs what is missing (Debian packages, npm) and runs everything
# make help   the other targets

GO      ?= go
TOOLS   := $(CURDIR)/.tools
FUZZ    ?= 30s
ROUNDS  ?= 50

# Packages that make test runs under the race detector: those in which goroutines share
# most. It makes tests several times slower; make race runs all of them under it.
RACE    := (/client|/internal/(cache|egress|engineio|eventlog|httpapi|limit|live|mask|outbox|planner|services|socketapi|socketio))$$

.PHONY: help test race deps build lint vuln fuzz chaos compat suites bench clean

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

test: deps ## install what is missing, then vet and test everything
	$(GO) vet ./...
	@unformatted=$$(gofmt -l . | grep -v node_modules); [ -z "$$unformatted" ] || { echo "gofmt these files: $$unformatted"; exit 1; }
	$(GO) test -race -timeout 15m $$($(GO) list ./... | grep -E '$(RACE)')
	$(GO) test -timeout 15m $$($(GO) list ./... | grep -vE '$(RACE)')
	npm --prefix js test

deps: ## install PostgreSQL, Chromium, nginx, Apache, HAProxy and npm packages if they are missing (Debian)
	@scripts/install-deps

build: ## bin/buildcast
	$(GO) build -trimpath -o bin/buildcast ./cmd/buildcast

race: deps ## everything under the race detector
	$(GO) test -race -timeout 30m ./...

lint: ## golangci-lint with the import directions, gofumpt
	cd tools && $(GO) build -o $(TOOLS)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	$(TOOLS)/golangci-lint run ./...

vuln: ## known vulnerabilities (needs the network)
	cd tools && $(GO) build -o $(TOOLS)/govulncheck golang.org/x/vuln/cmd/govulncheck
	$(TOOLS)/govulncheck ./...

fuzz: ## each fuzz target for FUZZ (30s)
	@scripts/fuzz $(FUZZ)

chaos: deps ## kill -9 the server ROUNDS (50) times while builds run and clients append, on both stores
	BUILDCAST_CHAOS_ROUNDS=$(ROUNDS) $(GO) test -timeout 60m -count 1 -v -run 'TestKill|TestPostgresStopped|TestTwoNodes' ./internal/chaostest

compat: deps ## clients made of the OpenAPI document; deploys beside wrangler, Cloudflare's own tool (400 MB of npm packages)
	$(GO) test -tags compat -timeout 20m -count 1 -run TestGoClients ./internal/openapitest
	cd internal/deploy/cloudflare/wrangler && npm ci --no-fund --no-audit
	$(GO) test -tags compat -timeout 20m -count 1 -v -run TestCompat ./internal/deploy/cloudflare

suites: ## the Engine.IO and Socket.IO repositories' own test suites (needs the network)
	@scripts/suites

bench: deps ## ingest beside one INSERT per event; see bench/README.md
	@bench/run

clean: ## remove what the targets made
	rm -rf bin .tools
