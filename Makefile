# Every target sets up what it needs: Go and, for web/, Node are enough.
.DEFAULT_GOAL := help
include tools.env

SQLC := .tools/sqlc-$(SQLC_VERSION)
GOLANGCI_LINT := .tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOVULNCHECK := .tools/govulncheck-$(GOVULNCHECK_VERSION)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: build postgres ## Run a server with a Postgres of its own; ARGS="…" for more flags
	bin/tailroom dev $(ARGS)

.PHONY: build
build: ## Build bin/tailroom
	go build -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/tailroom

.PHONY: test
test: test-go test-web ## Run all tests, with a Postgres of their own

.PHONY: test-go
test-go: postgres cc ## Run the Go tests; ARGS="-run …" for some
	go test -race -timeout 10m $(ARGS) ./...

.PHONY: crash
crash: ROUNDS ?= 10
crash: SEED ?= 0
crash: postgres cc ## Break everything at random, and look at the log; ROUNDS=n SEED=s
	go test -race -count=1 -timeout 0 -v -run '^TestCrash$$' ./internal/apptest/crash -rounds $(ROUNDS) -seed $(SEED)

.PHONY: bench
bench: postgres ## Run the benchmarks; ARGS="-count 6" and the like
	go test -run '^$$' -bench . -benchmem -timeout 1h $(ARGS) ./...

.PHONY: soak
soak: postgres ## Work the log for ten minutes with an old snapshot held; ARGS="-soak 1h" for longer
	go test -tags soak -run '^TestSoak$$' -count 1 -timeout 0 -v ./internal/apptest $(ARGS)

.PHONY: lint
lint: $(GOLANGCI_LINT) types-web ## Check style, mistakes and the direction of the imports
	$(GOLANGCI_LINT) run ./...

.PHONY: types-web
types-web: web/node_modules/.package-lock.json ## Check the types of web/, and build its packages
	cd web && npm run build --workspaces --if-present

.PHONY: vulncheck
vulncheck: $(GOVULNCHECK) ## Look for known vulnerabilities in what the code reaches
	scripts/vulncheck $(GOVULNCHECK)

.PHONY: fuzz
fuzz: FUZZTIME ?= 1m
fuzz: ## Run every fuzz test for FUZZTIME, and keep what they come upon
	scripts/fuzz $(FUZZTIME)

.PHONY: generate
generate: $(SQLC) ## Generate db/ from queries/ and migrations/
	$(SQLC) generate

.PHONY: generate-check
generate-check: generate ## Fail if db/ is not what generate makes
	git diff --exit-code -- db
	@test -z "$$(git ls-files --others --exclude-standard db)" || { echo "db/ has files that are not in git"; exit 1; }

.PHONY: clean
clean: ## Remove what was built, but not the tools
	rm -rf bin web/node_modules web/*/dist web/packages/*/dist

.PHONY: test-web
test-web: build postgres chromium web/node_modules/.package-lock.json ## Run the web workspace's tests, on real instances
	cd web && npm test --workspaces --if-present

# npm writes that file last.
web/node_modules/.package-lock.json: web/package.json web/package-lock.json $(wildcard web/packages/*/package.json web/tests/package.json)
	cd web && npm ci

.PHONY: postgres cc chromium
postgres cc chromium:
	@scripts/ensure $@

# Tools are built once for each version; sqlc takes minutes.
$(SQLC): source = github.com/sqlc-dev/sqlc/cmd/sqlc@$(SQLC_VERSION)
$(GOLANGCI_LINT): source = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
$(GOVULNCHECK): source = golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
$(SQLC) $(GOLANGCI_LINT) $(GOVULNCHECK):
	GOBIN="$(CURDIR)/$@.new" go install $(source)
	mv $@.new/* $@ && rmdir $@.new
