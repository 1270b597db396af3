##@ Test

# The race detector needs cgo, hence a C compiler. Without one the tests run all the same, and say what they leave out;
# REQUIRE_RACE=1 makes that an error.
RACE := $(shell command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null && echo yes)
ifeq ($(RACE),yes)
TEST_GO_FLAGS := -race
TEST_ENV      := CGO_ENABLED=1
else
TEST_GO_FLAGS := -trimpath
TEST_ENV      := CGO_ENABLED=0
endif

# Modules whose tests are part of "make test": the product's, and those of our tools that have tests.
TEST_MODULES := . hack/cluster hack/images test/alerts test/kstatus
TEST_TIMEOUT ?= 10m

.PHONY: test
test: $(GOTESTSUM) $(if $(KUBEBUILDER_ASSETS),,$(BIN)/cluster) ## Unit tests, and tests against a real kube-apiserver and etcd (KUBEBUILDER_ASSETS is honoured). Needs no root.
ifneq ($(RACE),yes)
	@echo "no C compiler ($$(go env CC)) on this machine: the tests run without the race detector"
	@[ "$${REQUIRE_RACE:-0}" != 1 ] || { echo "REQUIRE_RACE=1 is set: install a C compiler, for example with apt-get install gcc libc6-dev" >&2; exit 1; }
endif
	@if [ -z "$${KUBEBUILDER_ASSETS:-}" ]; then \
		KUBEBUILDER_ASSETS=$$($(BIN)/cluster build envtest); \
		export KUBEBUILDER_ASSETS; \
	fi; \
	status=0; for m in $(TEST_MODULES); do \
		$(STEP) "test $$m" env -C "$$m" $(TEST_ENV) $(CURDIR)/$(GOTESTSUM) --format pkgname-and-test-fails --format-hide-empty-pkg \
			-- $(TEST_GO_FLAGS) -timeout $(TEST_TIMEOUT) ./... || status=1; \
	done; exit $$status

# on-cluster NAME,FLAGS-OF-GO-TEST
define on-cluster
@eval "$$($(BIN)/cluster env)"; \
OPERATOR_IMAGE=$(OPERATOR_IMAGE) RUNTIME_IMAGE=$(RUNTIME_IMAGE) IMAGE_REGISTRY=$(IMAGE_REGISTRY) IMAGE_TAG=$(IMAGE_TAG) \
CGO_ENABLED=0 $(STEP) "$1" $(GOTESTSUM) --format standard-verbose -- -trimpath -tags e2e -count=1 -timeout 20m $2 ./test/e2e/...
endef

.PHONY: e2e
e2e: cluster-up load-images $(GOTESTSUM) ## The demo's story as assertions, on a cluster of our own. Needs root.
	$(call on-cluster,end-to-end tests,-skip '^Test(Fault|Endurance)')

.PHONY: faults
faults: cluster-up load-images $(GOTESTSUM) ## Kill, freeze and cut off runtimes on that cluster: how soon does the status tell the truth? Needs root.
	$(call on-cluster,faults,-run '^TestFault' -parallel 6)

# What docs/upgrade.md upgrades from: the same tree under a lower version (olm.mk).
OLDER_VERSION  := 0.0.9
E2E_DOCS_OLDER := $(BIN)/images/e2e-olm-operator-$(OLDER_VERSION).tar $(BIN)/images/e2e-olm-runtime-$(OLDER_VERSION).tar

.PHONY: e2e-docs
e2e-docs: cluster-down load-images $(BIN)/images/published-kubernetes.tar $(E2E_DOCS_OLDER) $(KUSTOMIZE) $(GOTESTSUM) ## The commands of docs/install.md, operations.md and upgrade.md, as they stand there, on a fresh cluster. Needs root.
	@$(STEP) "load the server of the docs, and an older version" $(BIN)/cluster load-image $(BIN)/images/published-kubernetes.tar $(E2E_DOCS_OLDER)
	@eval "$$($(BIN)/cluster env)"; OLDER_VERSION=$(OLDER_VERSION) CGO_ENABLED=0 $(STEP) "commands of the docs" $(GOTESTSUM) --format standard-verbose \
		-- -trimpath -tags e2e -count=1 -timeout 20m -run TestKustomizeStory ./test/docs/

# Shorter with VMCP_FLAPPING, VMCP_STEADY and VMCP_ABSENCE: how long a backend flaps, nothing happens, and the API server is away.
.PHONY: endurance
endurance: cluster-up load-images $(GOTESTSUM) ## 22 minutes on that cluster: what is written about a backend that flaps, what is sent when nothing happens, and the API server away for ten minutes. Needs root.
	$(call on-cluster,endurance,-run '^TestEndurance' -timeout 45m)

# How many VirtualMCPServers "make scale" makes.
SCALE ?= 500

.PHONY: scale
scale: $(BIN)/cluster $(BIN)/operator $(BIN)/scale $(KWOK) ## Hundreds of VirtualMCPServers (SCALE=500) on fake nodes: API requests, writes and memory of the operator, against their bounds. About ten minutes.
	@$(STEP) "scale" hack/make/scale.sh $(SCALE) $(BIN) $(KWOK)

$(BIN)/scale: FORCE
	@$(STEP) "build bin/scale" $(GO_PROGRAM) $@ -trimpath ./test/scale

# Targets of later issues: each says what it will be, and fails.
define not-yet
.PHONY: $1
$1:
	@echo "make $1: not available yet: $2" >&2; exit 1
endef
