##@ OLM on a cluster of our own

# The versions that "make e2e-olm" upgrades through, besides VERSION: the same tree under lower versions, each with images of its own.
E2E_OLM_VERSIONS ?= 0.0.8 0.0.9

# A program knows its version from its linker flags: for the price of a link each is another image.
e2e-olm-image = $(IMAGE_REGISTRY)/vmcp-$1:v$2
$(BIN)/e2e-olm/%/bin/operator: FORCE
	@mkdir -p $(@D)
	@$(STEP) "build operator v$*" $(GO_PROGRAM) $@ -trimpath -ldflags "$(subst Version=v$(VERSION),Version=v$*,$(LDFLAGS))" ./cmd/operator
$(BIN)/e2e-olm/%/bin/vmcp: FORCE
	@mkdir -p $(@D)
	@$(STEP) "build vmcp v$*" $(GO_PROGRAM) $@ -trimpath -ldflags "$(subst Version=v$(VERSION),Version=v$*,$(LDFLAGS))" ./cmd/vmcp
$(BIN)/images/e2e-olm-operator-%.tar: Dockerfile $(BIN)/e2e-olm/%/bin/operator $(BIN)/imagetool $(BIN)/images/names
	@$(STEP) "image of operator v$*" $(BIN)/imagetool build -f $< -target operator -context $(BIN)/e2e-olm/$* -t $(call e2e-olm-image,operator,$*) -o $@
$(BIN)/images/e2e-olm-runtime-%.tar: Dockerfile $(BIN)/e2e-olm/%/bin/vmcp $(BIN)/imagetool $(BIN)/images/names
	@$(STEP) "image of vmcp v$*" $(BIN)/imagetool build -f $< -target runtime -context $(BIN)/e2e-olm/$* -t $(call e2e-olm-image,runtime,$*) -o $@

.PRECIOUS: $(BIN)/e2e-olm/%/bin/operator $(BIN)/e2e-olm/%/bin/vmcp

E2E_OLM_IMAGES = $(foreach v,$(E2E_OLM_VERSIONS) $(VERSION),$(BIN)/images/e2e-olm-operator-$v.tar $(BIN)/images/e2e-olm-runtime-$v.tar)

.PHONY: olm-up
olm-up: $(BIN)/cluster
	@$(STEP) "cluster up olm" $(BIN)/cluster up olm

# E2E_OLM_FLAGS go to go test: -run '^TestUpgrade' for example.
E2E_OLM_FLAGS ?=

.PHONY: e2e-olm
e2e-olm: olm-up $(E2E_OLM_IMAGES) $(BIN)/images/bundle.tar $(BIN)/images/catalog.tar $(BIN)/images/demo-everything.tar $(BIN)/images/demo-filesystem.tar $(BIN)/images/published-kubernetes.tar $(OPERATOR_SDK) $(OPM) $(GOTESTSUM) ## Install by OLM, use, upgrade under load, uninstall, on a cluster of our own. Needs root.
	@$(STEP) "load images" $(BIN)/cluster load-image $(BIN)/images/demo-everything.tar $(BIN)/images/demo-filesystem.tar $(BIN)/images/published-kubernetes.tar $(E2E_OLM_IMAGES)
	@$(STEP) "push bundle and catalog" $(BIN)/cluster push-image $(BIN)/images/bundle.tar $(BIN)/images/catalog.tar
	@eval "$$($(BIN)/cluster env)"; \
	VMCP_TOOLS="$(CURDIR)/$(BIN)" VMCP_OPERATOR_SDK="$(CURDIR)/$(OPERATOR_SDK)" VMCP_VERSIONS="$(E2E_OLM_VERSIONS) $(VERSION)" \
	IMAGE_REGISTRY=$(IMAGE_REGISTRY) IMAGE_TAG=$(IMAGE_TAG) CATALOG_IMAGE=$(CATALOG_IMAGE) \
	CGO_ENABLED=0 $(STEP) "end-to-end tests with OLM" $(GOTESTSUM) --format standard-verbose -- \
		-trimpath -tags e2e_olm -count=1 -timeout 40m $(E2E_OLM_FLAGS) ./test/olm/...
ifeq ($(E2E_OLM_FLAGS),)
	@eval "$$($(BIN)/cluster env)"; CGO_ENABLED=0 $(STEP) "commands of the docs for OLM" $(GOTESTSUM) --format standard-verbose -- \
		-trimpath -tags e2e -count=1 -timeout 20m -run TestOLMStory ./test/docs/
endif
