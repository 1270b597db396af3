##@ Release

# What a release consists of, for each platform, below dist/. docs/releasing.md has the order of things.
RELEASE_PLATFORMS ?= linux-amd64 linux-arm64
RELEASE           := $(DIST)/release

.PHONY: release-images
release-images: $(DIST)/images/operator.tar $(DIST)/images/runtime.tar $(DIST)/images/scorecard-tests.tar ## All images for all of RELEASE_PLATFORMS, as dist/images/*.tar; prints digests and sizes.

# push NAME=ARCHIVE...
push = @for i in $1; do $(STEP) "push $${i%=*}" $(BIN)/imagetool push $(PUSH_FLAGS) -archive $${i\#*=} -to $${i%=*}; done

.PHONY: push-release
push-release: release-images ## Push them to IMAGE_REGISTRY (PUSH_FLAGS as for push-images).
	$(call push,$(BUNDLE_OPERATOR_IMAGE)=$(DIST)/images/operator.tar $(BUNDLE_RUNTIME_IMAGE)=$(DIST)/images/runtime.tar \
		$(SCORECARD_IMAGE)=$(DIST)/images/scorecard-tests.tar)

.PHONY: push-bundle
push-bundle: bundle-image catalog-image ## Push the images of the bundle and of the catalog, the latter as CATALOG_IMAGE and under the version.
	$(call push,$(BUNDLE_IMAGE)=$(BIN)/images/bundle.tar $(CATALOG_IMAGE)=$(BIN)/images/catalog.tar \
		$(IMAGE_REGISTRY)/vmcp-operator-catalog:v$(VERSION)=$(BIN)/images/catalog.tar)

# release-build PACKAGE. Neither the folder nor the state of the work tree is in a program; what it was built from is in its version.
release-build = @$(STEP) "build $@" env GOFLAGS=-buildvcs=false GOOS=$(firstword $(subst -, ,$*)) GOARCH=$(lastword $(subst -, ,$*)) \
	$(GO_PROGRAM) $@ -trimpath -ldflags "$(LDFLAGS)" $1
$(RELEASE)/%/bin/operator: FORCE
	$(call release-build,./cmd/operator)
$(RELEASE)/%/bin/vmcp: FORCE
	$(call release-build,./cmd/vmcp)
$(RELEASE)/%/bin/scorecard-tests: FORCE
	$(call release-build,./test/scorecard)

# release-image NAME
release-image = @$(STEP) "image $@" $(BIN)/imagetool build -f Dockerfile -target $(basename $(@F)) -context $(@D) -platform $(subst -,/,$*) -t $1 -o $@
$(RELEASE)/%/operator.tar: Dockerfile $(RELEASE)/%/bin/operator $(BIN)/imagetool FORCE
	$(call release-image,$(BUNDLE_OPERATOR_IMAGE))
$(RELEASE)/%/runtime.tar: Dockerfile $(RELEASE)/%/bin/vmcp $(BIN)/imagetool FORCE
	$(call release-image,$(BUNDLE_RUNTIME_IMAGE))
$(RELEASE)/%/scorecard-tests.tar: Dockerfile $(RELEASE)/%/bin/scorecard-tests $(BIN)/imagetool FORCE
	$(call release-image,$(SCORECARD_IMAGE))

# release-index NAME
release-index = @$(STEP) "image $1" $(BIN)/imagetool index -t $1 -o $@ $(foreach p,$(RELEASE_PLATFORMS),-archive $(RELEASE)/$p/$(@F))
$(DIST)/images/operator.tar: $(foreach p,$(RELEASE_PLATFORMS),$(RELEASE)/$p/operator.tar)
	$(call release-index,$(BUNDLE_OPERATOR_IMAGE))
$(DIST)/images/runtime.tar: $(foreach p,$(RELEASE_PLATFORMS),$(RELEASE)/$p/runtime.tar)
	$(call release-index,$(BUNDLE_RUNTIME_IMAGE))
$(DIST)/images/scorecard-tests.tar: $(foreach p,$(RELEASE_PLATFORMS),$(RELEASE)/$p/scorecard-tests.tar)
	$(call release-index,$(SCORECARD_IMAGE))

# Programs that only a pattern names would be removed after their image was made.
.PRECIOUS: $(RELEASE)/%/bin/operator $(RELEASE)/%/bin/vmcp $(RELEASE)/%/bin/scorecard-tests

.PHONY: reproducible
reproducible: ## Build the images of HEAD twice, in two clones with empty caches, and compare their digests. Minutes.
	@$(STEP) "reproducible" hack/make/reproducible.sh

.PHONY: sbom
sbom: $(foreach p,$(RELEASE_PLATFORMS),$(foreach b,operator vmcp scorecard-tests,$(DIST)/sbom/$b-$p.cdx.json)) ## What each program is made of, as CycloneDX: dist/sbom/*.cdx.json.

# sbom-of BINARY: read from the binary, not from go.mod, so that it says what is linked, and no more.
sbom-of = @mkdir -p $(@D); $(STEP) "sbom $(@F)" hack/make/sbom.sh $(CYCLONEDX) v$(VERSION) $1 $@
$(DIST)/sbom/operator-%.cdx.json: $(RELEASE)/%/bin/operator $(CYCLONEDX)
	$(call sbom-of,$<)
$(DIST)/sbom/vmcp-%.cdx.json: $(RELEASE)/%/bin/vmcp $(CYCLONEDX)
	$(call sbom-of,$<)
$(DIST)/sbom/scorecard-tests-%.cdx.json: $(RELEASE)/%/bin/scorecard-tests $(CYCLONEDX)
	$(call sbom-of,$<)

.PHONY: licenses
licenses: $(GO_LICENSES) ## List the licences of what the programs link, docs/reference/licenses.md, and refuse those that are not allowed.
	@$(STEP) "licences" hack/make/licenses.sh $(GO_LICENSES) docs/reference/licenses.md ./cmd/operator ./cmd/vmcp ./test/scorecard
