##@ Verify

# Modules whose Go code is linted; formatting, tidiness and text are checked in all of them.
LINT_MODULES := $(patsubst %/.,%,$(patsubst ./%,%,$(foreach m,. hack/cluster hack/images hack/demo test/alerts test/kstatus,$(if $(wildcard $m/go.mod),$m))))

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint the Go code of every module; .golangci.yml says with what, and why.
	@status=0; for m in $(LINT_MODULES); do \
		$(STEP) "lint $$m" env -C "$$m" CGO_ENABLED=0 GOFLAGS="$$(go env GOFLAGS) -trimpath" \
			$(CURDIR)/$(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./... || status=1; \
	done; exit $$status

# Generates all that is generated, checks the rest without writing, and then asks for the working tree to be what it was
# before: what is checked in is what the sources generate. Every check runs, also after one that failed.
.PHONY: verify
verify: ## Regenerate, check formatting, lint, modules and manifests; fail if anything generated was out of date.
	@state=$$(mktemp -d); trap 'rm -rf "$$state"' EXIT; \
	hack/verify/tree.sh save "$$state"; \
	$(MAKE) generate manifests docs bundle catalog licenses; \
	status=0; $(MAKE) --keep-going verify-format verify-text verify-kustomize verify-compositions verify-bundle verify-tidy lint || status=1; \
	$(STEP) "generated files are up to date" hack/verify/tree.sh compare "$$state" || status=1; \
	exit $$status

.PHONY: verify-format
verify-format: $(GOLANGCI_LINT)
	@$(STEP) "formatting (make fmt mends it)" $(GOLANGCI_LINT) fmt --diff

.PHONY: verify-text
verify-text:
	@$(STEP) "text that must not be committed" hack/verify/text.sh

# Each composition renders; "make build-installer" and the bundle start from two of them.
.PHONY: verify-kustomize
verify-kustomize: $(KUSTOMIZE)
	@for k in $(patsubst %/kustomization.yaml,%,$(shell git ls-files -co --exclude-standard -- 'config/*kustomization.yaml' 'test/*kustomization.yaml')); do \
		if ! grep -q '^kind: Component' "$$k/kustomization.yaml"; then $(STEP) "kustomize build $$k" $(KUSTOMIZE) build "$$k" -o /dev/null; fi; \
	done

# An API server takes each composition, and each component on each installation that it is for (a dry run; test/packaging); the bundle and
# the alerts are checked beside.
.PHONY: verify-compositions
verify-compositions: $(if $(KUBEBUILDER_ASSETS),,$(BIN)/cluster)
	@if [ -z "$${KUBEBUILDER_ASSETS:-}" ]; then \
		KUBEBUILDER_ASSETS=$$($(BIN)/cluster build envtest); \
		export KUBEBUILDER_ASSETS; \
	fi; \
	$(STEP) "compositions, by a dry run against an API server" env CGO_ENABLED=0 go test -trimpath -timeout 2m ./test/packaging

# The bundle of a release, with images by digest, is made into a folder of its own. Its registry is the test's, on the loopback interface.
.PHONY: verify-bundle
verify-bundle: $(CONTROLLER_GEN) $(KUSTOMIZE) $(OPERATOR_SDK)
	@$(STEP) "the bundle of a release" env CGO_ENABLED=0 go test -trimpath -tags bundle -count=1 -timeout 2m ./test/packaging/release

.PHONY: verify-tidy
verify-tidy:
	@status=0; for m in $(MODULES); do $(STEP) "go mod tidy -diff in $$m" bash -o pipefail -c "go mod tidy -C $$m -diff | sed 20q" || status=1; done; exit $$status
