##@ Generate

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deep copies and apply configurations of the API types.
	@$(STEP) "generate deep copies" $(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...
	@$(STEP) "generate apply configurations" $(CONTROLLER_GEN) applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/...

# kubebuilder's markers: CRDs from the API types, the operator's ClusterRole from the controllers.
.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate the CRDs and the operator's ClusterRole.
	@$(STEP) "generate CRDs" $(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	@$(STEP) "generate the operator's role" $(CONTROLLER_GEN) rbac:roleName=vmcp-operator paths=./controllers/... output:rbac:dir=config/rbac

API_REFERENCE := hack/make/api-reference

.PHONY: docs
docs: $(CRD_REF_DOCS) ## Generate the reference of the API, docs/reference/api.md.
	@mkdir -p docs/reference
	@$(STEP) "generate the API reference" $(CRD_REF_DOCS) --log-level=ERROR --source-path=api/v1alpha1 --renderer=markdown \
		--config=$(API_REFERENCE)/config.yaml --templates-dir=$(API_REFERENCE) --output-path=docs/reference/api.md

# Every module of this repository, by folder.
MODULES = $(patsubst %/,%,$(dir $(shell git ls-files -co --exclude-standard -- go.mod '*/go.mod')))

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go code of every module.
	@$(STEP) "format" $(GOLANGCI_LINT) fmt

.PHONY: tidy
tidy: ## Tidy go.mod and go.sum of every module.
	@for m in $(MODULES); do $(STEP) "tidy $$m" go mod tidy -C "$$m"; done
