# Development tools, built from the modules under hack/tools that pin them. A tool is built again only when its module changes.

TOOLS := $(BIN)/tools

CONTROLLER_GEN := $(TOOLS)/controller-gen
GOTESTSUM      := $(TOOLS)/gotestsum
KUSTOMIZE      := $(TOOLS)/kustomize
GOLANGCI_LINT  := $(TOOLS)/golangci-lint
OPERATOR_SDK   := $(TOOLS)/operator-sdk
CRD_REF_DOCS   := $(TOOLS)/crd-ref-docs
KWOK           := $(TOOLS)/kwok
OPM            := $(TOOLS)/opm
CYCLONEDX      := $(TOOLS)/cyclonedx-gomod
GO_LICENSES    := $(TOOLS)/go-licenses

# An argument of a function holds no comma of its own.
COMMA := ,

# build-tool MODULE-FOLDER,PACKAGE[,FURTHER-FLAGS]
build-tool = @$(STEP) "build $(@F)" env CGO_ENABLED=0 go build -C hack/tools/$1 -trimpath -ldflags "-s -w $(TOOL_LDFLAGS)" $3 -o $(CURDIR)/$@ $2

$(CONTROLLER_GEN) $(GOTESTSUM) $(KUSTOMIZE): hack/tools/go.mod hack/tools/go.sum
$(CONTROLLER_GEN):
	$(call build-tool,.,sigs.k8s.io/controller-tools/cmd/controller-gen)
$(GOTESTSUM):
	$(call build-tool,.,gotest.tools/gotestsum)
$(KUSTOMIZE):
	$(call build-tool,.,sigs.k8s.io/kustomize/kustomize/v5)

$(GOLANGCI_LINT): hack/tools/golangci-lint/go.mod hack/tools/golangci-lint/go.sum
	$(call build-tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(CRD_REF_DOCS): hack/tools/crd-ref-docs/go.mod hack/tools/crd-ref-docs/go.sum
	$(call build-tool,crd-ref-docs,github.com/elastic/crd-ref-docs)

$(KWOK): hack/tools/kwok/go.mod hack/tools/kwok/go.sum
	$(call build-tool,kwok,sigs.k8s.io/kwok/cmd/kwok)

# What the local cluster has as well comes from its modules.
CLUSTER_MODULES := hack/cluster/mods

# operator-sdk writes its version into the bundle, and knows it only from its linker flags. Its tags leave out gpgme, which is C.
SDK_VERSION = $(shell awk '$$1 == "github.com/operator-framework/operator-sdk" { print $$2 }' $(CLUSTER_MODULES)/operator-sdk/go.mod)
SDK_PACKAGE := github.com/operator-framework/operator-sdk/internal/version
$(OPERATOR_SDK): TOOL_LDFLAGS = -X $(SDK_PACKAGE).Version=$(SDK_VERSION) -X $(SDK_PACKAGE).GitVersion=$(SDK_VERSION) \
	-X $(SDK_PACKAGE).ImageVersion=$(SDK_VERSION)
$(OPERATOR_SDK): $(CLUSTER_MODULES)/operator-sdk/go.mod $(CLUSTER_MODULES)/operator-sdk/go.sum
	$(call build-tool,../cluster/mods/operator-sdk,github.com/operator-framework/operator-sdk/cmd/operator-sdk,-tags containers_image_openpgp)

# opm is pure Go here: file-based catalogs, no SQLite ones; its tags leave out gpgme, too.
$(OPM): TOOL_LDFLAGS = -X github.com/operator-framework/operator-registry/cmd/opm/version.opmVersion=$(shell awk '$$1 == "github.com/operator-framework/operator-registry" { print $$2 }' $(CLUSTER_MODULES)/opm/go.mod)
$(OPM): $(CLUSTER_MODULES)/opm/go.mod $(CLUSTER_MODULES)/opm/go.sum
	$(call build-tool,../cluster/mods/opm,github.com/operator-framework/operator-registry/cmd/opm,-tags json1$(COMMA)containers_image_openpgp)

$(CYCLONEDX): hack/tools/cyclonedx-gomod/go.mod hack/tools/cyclonedx-gomod/go.sum
	$(call build-tool,cyclonedx-gomod,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)

$(GO_LICENSES): hack/tools/go-licenses/go.mod hack/tools/go-licenses/go.sum
	$(call build-tool,go-licenses,github.com/google/go-licenses/v2)
