##@ OLM

# What a bundle says: the images that it installs, by tag, and the version that it replaces, none for a first one. A release has its images
# in their registry and names them by digest: make bundle USE_IMAGE_DIGESTS=yes. BUNDLE_DIR elsewhere (below dist/, for example) leaves
# the bundle that is checked in as it is.
BUNDLE_DIR             ?= bundle
BUNDLE_CHANNELS        ?= candidate,stable
BUNDLE_DEFAULT_CHANNEL ?= stable
BUNDLE_OPERATOR_IMAGE  ?= $(IMAGE_REGISTRY)/vmcp-operator:v$(VERSION)
BUNDLE_RUNTIME_IMAGE   ?= $(IMAGE_REGISTRY)/vmcp-runtime:v$(VERSION)
PREVIOUS_VERSION       ?=
USE_IMAGE_DIGESTS      ?= no

# What the images of the bundle and of the catalog are called. The catalog's has a name that stays: a CatalogSource polls it for newer versions.
BUNDLE_IMAGE  ?= $(IMAGE_REGISTRY)/vmcp-operator-bundle:v$(VERSION)
CATALOG_IMAGE ?= $(IMAGE_REGISTRY)/vmcp-operator-catalog:latest

.PHONY: bundle
bundle: manifests $(KUSTOMIZE) $(OPERATOR_SDK) ## Generate and validate the OLM bundle; a warning is a failure (USE_IMAGE_DIGESTS=yes at release).
	@$(STEP) "bundle $(VERSION)" hack/make/bundle.sh $(OPERATOR_SDK) $(KUSTOMIZE) $(BUNDLE_DIR) $(VERSION) "$(PREVIOUS_VERSION)" \
		$(BUNDLE_OPERATOR_IMAGE) $(BUNDLE_RUNTIME_IMAGE) $(BUNDLE_CHANNELS) $(BUNDLE_DEFAULT_CHANNEL) $(USE_IMAGE_DIGESTS)

.PHONY: bundle-image
bundle-image: $(BIN)/images/bundle.tar ## Its image, as BUNDLE_IMAGE: bin/images/bundle.tar.

# The bundles, by folder, that make catalog renders anew, and what their images are called.
CATALOG_DIR           ?= catalog
CATALOG_TEMPLATE      ?= catalog/template.yaml
CATALOG_BUNDLES       ?= $(BUNDLE_DIR)
CATALOG_BUNDLE_IMAGES ?= $(IMAGE_REGISTRY)/vmcp-operator-bundle:v{{.Version}}

.PHONY: catalog
catalog: $(OPM) ## Render and validate the file-based catalog, catalog/, of catalog/template.yaml and the bundle.
	@$(STEP) "catalog" hack/make/catalog.sh $(OPM) $(CATALOG_DIR) $(CATALOG_TEMPLATE) "$(CATALOG_BUNDLE_IMAGES)" $(CATALOG_BUNDLES)

.PHONY: catalog-image
catalog-image: $(BIN)/images/catalog.tar ## Its image, as CATALOG_IMAGE: bin/images/catalog.tar.

$(BIN)/images/bundle.tar: FORCE $(BIN)/imagetool
	@$(STEP) "image $(BUNDLE_IMAGE)" $(BIN)/imagetool build -f $(BUNDLE_DIR).Dockerfile -context . -t $(BUNDLE_IMAGE) -o $@
$(BIN)/images/catalog.tar: FORCE $(BIN)/imagetool
	@$(STEP) "image $(CATALOG_IMAGE)" $(BIN)/imagetool build -f catalog.Dockerfile -build-arg CATALOG_DIR=$(CATALOG_DIR) -context . -t $(CATALOG_IMAGE) -o $@
