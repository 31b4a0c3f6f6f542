# hyperkube: two commands do everything, `make run` and `make test`.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED := 0
GO ?= go
# The package, or pattern of packages, that test and bench take: make test WHAT=./scheduler/...
WHAT ?= ./...
DATA_DIR ?= /var/lib/hyperkube
SMALL := -ldflags='-s -w'
EMBEDDED := cri/embedded/bin
# `kubectl version` compares its own version with the server's, and has it from the linker only.
KUBECTL_VERSION = -X k8s.io/component-base/version.gitVersion=$(shell $(GO) list -m -f '{{.Version}}' k8s.io/kubectl | sed 's/^v0/v1/')

.PHONY: help run build test unit e2e verify bench generate debug clean host-tools

help: ## what each target does
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build host-tools ## build bin/hyperkube and run the whole cluster (needs root)
	@if [ "$$(id -u)" = 0 ]; then exec bin/hyperkube all --data-dir $(DATA_DIR); else exec sudo bin/hyperkube all --data-dir $(DATA_DIR); fi

# The two small programs go into the binary compressed; without them
# `go build ./cmd/hyperkube` works too, at a higher cost per pod.
build: ## build bin/hyperkube, one static file
	@mkdir -p bin $(EMBEDDED)
	@for p in podparent box; do $(GO) build $(SMALL) -o bin/$$p ./cmd/$$p; gzip -9 -n -c bin/$$p > bin/$$p.gz; cmp -s bin/$$p.gz $(EMBEDDED)/$$p.gz || cp bin/$$p.gz $(EMBEDDED)/$$p.gz; done
	$(GO) run ./test/pack
	$(GO) build -ldflags="-s -w $(KUBECTL_VERSION)" -o bin/hyperkube ./cmd/hyperkube
	@ls -l bin/hyperkube | awk '{printf "bin/hyperkube: %.1f MiB\n", $$5/1048576}'

# iptables is the one program that hyperkube needs from the host.
host-tools:
	@if ! command -v iptables >/dev/null; then \
	  echo "iptables is missing: installing it with the system's package manager"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  if command -v apt-get >/dev/null; then $$sudo apt-get update -q && $$sudo apt-get install -y -q --no-install-recommends iptables; \
	  elif command -v dnf >/dev/null; then $$sudo dnf install -y iptables-nft; \
	  elif command -v apk >/dev/null; then $$sudo apk add iptables; \
	  elif command -v zypper >/dev/null; then $$sudo zypper install -y iptables; \
	  else echo "no known package manager: install iptables by hand" >&2; exit 1; fi; \
	fi

test: build verify ## everything that CI runs: vet, cross-builds, house rules, unit, integration, e2e
	$(GO) test -timeout 45m $(WHAT)

unit: ## tests that need neither root nor the built binary
	$(GO) test -short -timeout 10m $$($(GO) list $(WHAT) | grep -v /test/e2e)

e2e: build ## the cluster with real containers, kubectl as a process; RUN=TestName for one
	$(GO) test -v -timeout 45m ./test/e2e/... -run '$(or $(RUN),.)'

verify: ## gofmt, vet, the rules of the house, builds for darwin and arm64
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) test ./test/house/...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./cmd/hyperkube
	GOOS=linux GOARCH=arm64 $(GO) vet ./cmd/hyperkube ./cmd/podparent ./cmd/box

bench: build ## times and sizes; see README's table
	$(GO) run ./test/bench

generate: ## make the generated files anew (OpenAPI definitions)
	$(GO) generate ./apiserver/openapi/...

debug: ## bin/hyperkube without optimisation, for dlv
	$(GO) build -gcflags='all=-N -l' -o bin/hyperkube-debug ./cmd/hyperkube

clean: ## remove what was built
	rm -rf bin $(EMBEDDED)/*.gz
