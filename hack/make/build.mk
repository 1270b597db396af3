##@ Build

# The binaries report the commit they were built from. No tag is in it: a release is built before it is tagged, and has to be the same afterwards.
REVISION := $(shell git describe --always --exclude='*' --dirty --abbrev=12 2>/dev/null || echo unknown)
VERSION_PACKAGE := github.com/vmcp-dev/vmcp-operator/internal/version
LDFLAGS := -s -w -X $(VERSION_PACKAGE).Version=v$(VERSION) -X $(VERSION_PACKAGE).Revision=$(REVISION)

.PHONY: build
build: $(BIN)/operator $(BIN)/vmcp ## Build the operator and the runtime: bin/operator, bin/vmcp.

.PHONY: images
images: $(BIN)/images/operator.tar $(BIN)/images/runtime.tar ## Build their images without Docker: bin/images/*.tar.

.PHONY: demo-images
demo-images: $(BIN)/images/demo-kubernetes.tar $(BIN)/images/demo-filesystem.tar $(BIN)/images/demo-everything.tar ## Build the demo's MCP servers and their images.

# go build decides what is out of date.
$(BIN)/operator: FORCE
	@$(STEP) "build bin/operator" $(GO_PROGRAM) $@ -trimpath -ldflags "$(LDFLAGS)" ./cmd/operator
$(BIN)/vmcp: FORCE
	@$(STEP) "build bin/vmcp" $(GO_PROGRAM) $@ -trimpath -ldflags "$(LDFLAGS)" ./cmd/vmcp
$(BIN)/cluster: FORCE
	@$(STEP) "build bin/cluster" $(GO_PROGRAM) $@ -C hack/cluster -trimpath .
$(BIN)/imagetool: FORCE
	@$(STEP) "build bin/imagetool" $(GO_PROGRAM) $@ -C hack/images -trimpath .

# mcp-server PACKAGE: the server $(@F), from the module that pins it.
mcp-server = @$(STEP) "build bin/mcp-servers/$(@F)" env CGO_ENABLED=0 go build -C hack/mcp-servers/$(@F) -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ $1
$(BIN)/mcp-servers/%: hack/mcp-servers/%/go.mod hack/mcp-servers/%/go.sum
	$(call mcp-server,$(MCP_SERVER_PACKAGE))
$(BIN)/mcp-servers/kubernetes: MCP_SERVER_PACKAGE := github.com/containers/kubernetes-mcp-server/cmd/kubernetes-mcp-server
$(BIN)/mcp-servers/filesystem: MCP_SERVER_PACKAGE := github.com/mark3labs/mcp-filesystem-server
$(BIN)/mcp-servers/everything: MCP_SERVER_PACKAGE := github.com/modelcontextprotocol/go-sdk/conformance/everything-server

# An archive holds its image's name: another registry or tag makes other archives.
$(BIN)/images/names: FORCE
	@mkdir -p $(@D)
	@echo '$(IMAGE_REGISTRY) $(IMAGE_TAG)' | cmp -s - $@ || echo '$(IMAGE_REGISTRY) $(IMAGE_TAG)' > $@

# demo-image SERVER: the name of its image.
demo-image = $(IMAGE_REGISTRY)/demo-$1-mcp:$(IMAGE_TAG)
# image DOCKERFILE,TARGET,NAME
image = @$(STEP) "image $3" $(BIN)/imagetool build -f $1 -target $2 -context . -t $3 -o $@
$(BIN)/images/operator.tar: Dockerfile $(BIN)/operator $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,operator,$(OPERATOR_IMAGE))
$(BIN)/images/runtime.tar: Dockerfile $(BIN)/vmcp $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,runtime,$(RUNTIME_IMAGE))
$(BIN)/images/demo-%.tar: hack/mcp-servers/Dockerfile $(BIN)/mcp-servers/% $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,$*,$(call demo-image,$*))
# The server of docs/install.md, under the name and version that its authors publish it as.
PUBLISHED_SERVER := quay.io/containers/kubernetes_mcp_server:$(shell awk '$$1 == "github.com/containers/kubernetes-mcp-server" { print $$2 }' hack/mcp-servers/kubernetes/go.mod)
$(BIN)/images/published-kubernetes.tar: hack/mcp-servers/Dockerfile $(BIN)/mcp-servers/kubernetes $(BIN)/imagetool
	$(call image,$<,kubernetes,$(PUBLISHED_SERVER))
# Servers of the end-to-end tests' own; the demo has none.
E2E_SERVERS := tokenserver faultyserver
$(E2E_SERVERS:%=$(BIN)/e2e/%): $(BIN)/e2e/%: FORCE
	@$(STEP) "build $@" $(GO_PROGRAM) $@ -trimpath -ldflags "-s -w" ./test/e2e/$*
$(E2E_SERVERS:%=$(BIN)/images/e2e-%.tar): $(BIN)/images/e2e-%.tar: test/e2e/%/Dockerfile $(BIN)/e2e/% $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,$*,$(IMAGE_REGISTRY)/e2e-$*:$(IMAGE_TAG))

# PUSH_FLAGS=-plain-http for a registry without TLS.
.PHONY: push-images
push-images: images demo-images ## Push all of them to IMAGE_REGISTRY, for a cluster that is not ours.
	@for i in $(OPERATOR_IMAGE)=operator $(RUNTIME_IMAGE)=runtime $(foreach s,kubernetes filesystem everything,$(call demo-image,$s)=demo-$s); do \
		$(STEP) "push $${i%=*}" $(BIN)/imagetool push $(PUSH_FLAGS) -archive $(BIN)/images/$${i#*=}.tar -to $${i%=*}; \
	done

.PHONY: build-installer
build-installer: $(KUSTOMIZE) ## Write everything that kubectl apply needs into dist/install.yaml.
	@mkdir -p $(DIST)
	@$(STEP) "render dist/install.yaml" hack/make/installer.sh $(KUSTOMIZE) $(OPERATOR_IMAGE) $(RUNTIME_IMAGE) $(DIST)/install.yaml
