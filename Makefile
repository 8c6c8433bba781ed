# Two commands are all: make demo, make test. Both need Go and nothing else.

SHELL := /bin/bash
BIN   := bin
# The modules beside the product's own, which the product does not depend on.
MODULES := integration examples/demo examples/unit-test examples/gcs-upload/go examples/laptop deploy/helm/test internal/dns/coredns

# A go.work, which `make workspace` writes for editors, raises the versions that a
# module builds with. Here, each module builds with its own go.mod.
export GOWORK := off

.PHONY: build demo test e2e bench cluster-binaries check kubernetes-binaries update workspace image clean

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
# The packages of `make e2e`: they need root and the programs of real nodes.
E2E    := ^gke-metadata-emulator/integration/(cluster|examples)(/|$$)

test: check kubernetes-binaries ## all tests
	set -o pipefail; $(GOTEST) -timeout 30m ./... 2>&1 | $(LOUD)
	set -eo pipefail; for m in $(MODULES); do (cd $$m && go vet ./... && $(GOTEST) -timeout 30m $$(go list ./... | grep -vE '$(E2E)') 2>&1 | $(LOUD)); done

cluster-binaries: ## the programs of real nodes, built once for each version
	cd integration && go run ./cluster/cmd/cluster-binaries

e2e: cluster-binaries ## the product on two real nodes, in each routing mode and with each CNI, and the examples; needs root
	set -o pipefail; cd integration && go vet ./cluster/... ./examples/... && go test -count=1 -v -timeout 40m ./cluster/... 2>&1 | $(LOUD)
	set -o pipefail; cd integration && go test -count=1 -v -timeout 40m ./examples/... 2>&1 | $(LOUD)

bench: kubernetes-binaries ## what the daemon costs, in ratios; on a machine that does nothing else
	set -o pipefail; cd integration && go test -count=1 -v -timeout 30m ./bench -measure 2>&1 | $(LOUD)
	set -o pipefail; cd integration && go test -count=1 -v -timeout 30m -run TestNodeCost . 2>&1 | $(LOUD)

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
	cd integration && go run ./kubernetes/cmd/kubernetes-binaries >/dev/null

check: ## static analysis
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

update: ## rewrite golden files and generated tables
	go test ./server ./internal/daemon ./cmd/... ./internal/dns -update
	cd deploy/helm/test && go run . && go test . -update
	cd integration/clients && go test ./... -update

workspace: ## a go.work, which Git ignores, with which an editor sees all modules
	rm -f go.work go.work.sum
	GOWORK= go work init . $(MODULES) examples/on-prem integration/clients/golang

image: ## a container image
	docker build -t gke-metadata-emulator .

clean:
	rm -rf $(BIN)
