# The two main targets are demo and test. They need Go; test also needs root.

SHELL := /bin/bash
BIN   := bin
# The modules beside the product's own, which the product does not depend on.
MODULES := integration examples/demo examples/unit-test examples/gcs-upload/go examples/laptop deploy/helm/test internal/dns/coredns

# A go.work, which `make workspace` writes for editors, raises the versions that a
# module builds with. Here, each module builds with its own go.mod.
export GOWORK := off

.PHONY: build demo test e2e bench cluster-binaries check kubernetes-binaries bpf bpf-check bpf-tools update workspace image clean

build: $(BIN)/gke-metadata-emulator ## build the program

# grpcnotrace: otherwise gRPC, a dependency of Google's library, brings debug pages. Their
# templates can call any method by name, so the linker would have to keep every method.
.PHONY: $(BIN)/gke-metadata-emulator
$(BIN)/gke-metadata-emulator:
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o $@ ./cmd/gke-metadata-emulator

demo: build ## upload to Cloud Storage with a workload's identity; ONESHOT=1 exits after the check
	cd examples/demo && go build -o ../../$(BIN)/demo .
	ONESHOT=$(ONESHOT) $(BIN)/demo --binary $(BIN)/gke-metadata-emulator

# Verbose, with the passed tests filtered out: go test reports the reason of a skip only with -v.
GOTEST := go test -race -count=1 -v
LOUD   := grep --line-buffered -vE '^(=== | *--- PASS|PASS$$)'
# The packages of `make e2e`: they need root and the programs of real nodes.
E2E    := ^gke-metadata-emulator/integration/(cluster|examples)(/|$$)

test: check kubernetes-binaries ## run all tests
	set -o pipefail; $(GOTEST) -timeout 30m ./... 2>&1 | $(LOUD)
	set -eo pipefail; for m in $(MODULES); do (cd $$m && go vet ./... && $(GOTEST) -timeout 30m $$(go list ./... | grep -vE '$(E2E)') 2>&1 | $(LOUD)); done

cluster-binaries: ## build the programs of real nodes, once for each version
	cd integration && go run ./cluster/cmd/cluster-binaries

e2e: cluster-binaries ## test the product on two real nodes, in each routing mode and with each CNI, and the examples; needs root
	set -o pipefail; cd integration && go vet ./cluster/... ./examples/... && go test -count=1 -v -timeout 40m ./cluster/... 2>&1 | $(LOUD)
	set -o pipefail; cd integration && go test -count=1 -v -timeout 40m ./examples/... 2>&1 | $(LOUD)

bench: kubernetes-binaries ## measure what the daemon costs, in ratios; run it on an idle machine
	set -o pipefail; cd integration && go test -count=1 -v -timeout 30m ./bench -measure 2>&1 | $(LOUD)
	set -o pipefail; cd integration && go test -count=1 -v -timeout 30m -run TestNodeCost . 2>&1 | $(LOUD)

EXAMPLES := example-gcs-upload example-kaniko example-on-prem example-ways
LOCAL_EXAMPLES := example-laptop example-docker-compose
.PHONY: $(EXAMPLES) $(LOCAL_EXAMPLES) example-unit-test
$(EXAMPLES): example-%: cluster-binaries ## run the commands of one example's README, on real nodes; needs root
	set -o pipefail; cd integration/examples && go test -count=1 -v -timeout 30m -run 'TestExamples/^$*$$' . 2>&1 | $(LOUD)

example-laptop: RUN := TestLaptop
example-docker-compose: RUN := TestCompose
$(LOCAL_EXAMPLES): ## run the commands of one example's README, in network namespaces; needs root
	set -o pipefail; cd integration/local && go test -count=1 -v -run '^$(RUN)' . 2>&1 | $(LOUD)

example-unit-test: ## run a program's unit tests with metadatatest
	cd examples/unit-test && go test -count=1 -v ./...

kubernetes-binaries: ## build kube-apiserver and etcd for the tests, once for each version
	cd integration && go run ./kubernetes/cmd/kubernetes-binaries >/dev/null

check: ## run static analysis
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: not formatted:" $$unformatted; exit 1; fi
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	cd integration && go tool -modfile=../tools/go.mod staticcheck ./...
	@go tool -modfile=tools/go.mod govulncheck ./... >$(or $(TMPDIR),/tmp)/govulncheck.$$$$ 2>&1; code=$$?; \
	out=$(or $(TMPDIR),/tmp)/govulncheck.$$$$; \
	case $$code in \
	0) echo "govulncheck: no known vulnerability is reached" ;; \
	3) cat $$out; rm -f $$out; exit 3 ;; \
	*) echo "govulncheck: NOT CHECKED, the vulnerability database cannot be reached from here:"; tail -1 $$out | cut -c1-200 ;; \
	esac; rm -f $$out

update: ## regenerate golden files and tables
	go test ./server ./internal/daemon ./cmd/... ./internal/dns -update
	cd deploy/helm/test && go run . && go test . -update
	cd integration && go test ./clients -update

# The programs of the kernel are committed as objects, so a build needs no clang.
# internal/bpf/generate.go pins the version.
BPF_PACKAGES := clang-14 llvm-14

bpf: bpf-tools ## regenerate the eBPF objects and their Go bindings, from internal/bpf/*.c
	cd internal/bpf && go generate .

bpf-check: ## compare the eBPF objects with internal/bpf/*.c, byte by byte; on Debian installs clang if it is missing
	-@$(MAKE) --no-print-directory bpf-tools
	set -o pipefail; go test -count=1 -v -run '^(TestChecksums|TestObjects)_' ./internal/bpf 2>&1 | $(LOUD)

bpf-tools:
	@if command -v clang-14 >/dev/null && command -v llvm-strip-14 >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
		echo "clang-14 or llvm-strip-14 not found; on Debian 12: apt-get install $(BPF_PACKAGES)" >&2; exit 1; \
	fi; \
	echo "clang-14 or llvm-strip-14 not found: apt-get install $(BPF_PACKAGES)"; \
	install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(BPF_PACKAGES) >/dev/null; }; \
	install || { apt-get update -qq && install; }

workspace: ## write a go.work, which Git ignores, so an editor sees all modules
	rm -f go.work go.work.sum
	GOWORK= go work init . $(MODULES) examples/on-prem integration/clients/golang

image: ## build a container image
	docker build -t gke-metadata-emulator .

clean:
	rm -rf $(BIN)
