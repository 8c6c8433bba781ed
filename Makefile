# Two commands are all: make demo, make test. Both need Go and nothing else.

SHELL := /bin/bash
BIN   := bin
# The modules beside the product's own, which the product does not depend on.
MODULES := integration/gcs integration/registry examples/demo examples/unit-test examples/gcs-upload/go integration/clients integration/local examples/laptop deploy/helm/test internal/dns/coredns

.PHONY: build demo test e2e bench cluster-binaries check unit kubernetes-binaries modules bpf bpf-check bpf-tools update image clean

build: $(BIN)/gke-metadata-emulator ## the program

# grpcnotrace: gRPC, which Google's library brings, has debug pages otherwise, whose
# templates can call any method by its name, so that the linker keeps all there are.
.PHONY: $(BIN)/gke-metadata-emulator
$(BIN)/gke-metadata-emulator:
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o $@ ./cmd/gke-metadata-emulator

demo: build ## a GCS upload with a workload's identity; ONESHOT=1 ends after the proof
	cd examples/demo && go build -o ../../$(BIN)/demo .
	ONESHOT=$(ONESHOT) $(BIN)/demo --binary $(BIN)/gke-metadata-emulator

# Verbose, without what passed: go test says why a test was skipped in no other way.
GOTEST := go test -race -count=1 -v
LOUD   := grep --line-buffered -vE '^(=== | *--- PASS|PASS$$)'

test: check kubernetes-binaries ## all tests
	set -o pipefail; $(GOTEST) -timeout 30m ./... 2>&1 | $(LOUD)
	set -eo pipefail; for m in $(MODULES); do (cd $$m && go vet ./... && $(GOTEST) -timeout 30m ./... 2>&1 | $(LOUD)); done

cluster-binaries: ## the programs of real nodes, built once for each version
	cd integration/cluster && go run ./cmd/cluster-binaries

e2e: cluster-binaries ## the product on two real nodes, in each routing mode and with each CNI, and the examples; needs root
	set -o pipefail; cd integration/cluster && go vet ./... && go test -count=1 -v -timeout 40m ./... 2>&1 | $(LOUD)
	set -o pipefail; cd integration/examples && go vet ./... && go test -count=1 -v -timeout 40m ./... 2>&1 | $(LOUD)

bench: kubernetes-binaries ## what the daemon costs, in ratios; on a machine that does nothing else
	set -o pipefail; go test -count=1 -v -timeout 30m ./integration/bench -measure 2>&1 | $(LOUD)
	set -o pipefail; go test -count=1 -v -timeout 30m -run TestWhatANodeCosts ./integration 2>&1 | $(LOUD)

EXAMPLES := example-gcs-upload example-kaniko example-on-prem
LOCAL_EXAMPLES := example-laptop example-docker-compose
.PHONY: $(EXAMPLES) $(LOCAL_EXAMPLES) example-unit-test
$(EXAMPLES): example-%: cluster-binaries ## one example by its README's own commands, on real nodes; needs root
	set -o pipefail; cd integration/examples && go test -count=1 -v -timeout 30m -run 'TestExamples/^$*$$' . 2>&1 | $(LOUD)

example-laptop: RUN := TestLaptop
example-docker-compose: RUN := TestCompose
$(LOCAL_EXAMPLES): ## one example for one machine by its README's own commands, in network namespaces; needs root
	set -o pipefail; cd integration/local && go test -count=1 -v -run '^$(RUN)' . 2>&1 | $(LOUD)

example-unit-test: ## a program's unit tests with metadatatest
	cd examples/unit-test && go test -count=1 -v ./...

kubernetes-binaries: ## a real kube-apiserver and etcd for the tests, built once for each version
	go run ./integration/kubernetes/cmd/kubernetes-binaries >/dev/null

check: ## static analysis
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: not formatted:" $$unformatted; exit 1; fi
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	@go tool -modfile=tools/go.mod govulncheck ./... >$(or $(TMPDIR),/tmp)/govulncheck.$$$$ 2>&1; code=$$?; \
	out=$(or $(TMPDIR),/tmp)/govulncheck.$$$$; \
	case $$code in \
	0) echo "govulncheck: no known vulnerability is reached" ;; \
	3) cat $$out; rm -f $$out; exit 3 ;; \
	*) echo "govulncheck: NOT CHECKED, the vulnerability database cannot be reached from here:"; tail -1 $$out | cut -c1-200 ;; \
	esac; rm -f $$out

update: ## write golden files and generated tables anew
	go test ./server ./internal/daemon ./cmd/... ./internal/dns -update
	cd deploy/helm/test && go run . && go test . -update
	cd integration/clients && go test ./... -update

# The programs of the kernel are committed as objects, so a build needs no clang.
# internal/bpf/generate.go pins the version.
BPF_PACKAGES := clang-14 llvm-14

bpf: bpf-tools ## the eBPF objects and their Go bindings, from internal/bpf/*.c
	cd internal/bpf && go generate .

bpf-check: ## whether the eBPF objects are those of internal/bpf/*.c, byte by byte; on Debian installs clang if it is missing
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

image: ## a container image
	docker build -t gke-metadata-emulator .

clean:
	rm -rf $(BIN)
