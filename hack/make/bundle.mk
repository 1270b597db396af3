##@ OLM

BUNDLE_CHANNELS        ?= alpha
BUNDLE_DEFAULT_CHANNEL ?= alpha

.PHONY: bundle
bundle: manifests $(KUSTOMIZE) $(OPERATOR_SDK) ## Generate and validate the OLM bundle.
	@$(STEP) "bundle $(VERSION)" hack/make/bundle.sh $(OPERATOR_SDK) $(KUSTOMIZE) $(VERSION) $(BUNDLE_CHANNELS) $(BUNDLE_DEFAULT_CHANNEL)

scorecard: ## Not yet: operator-sdk's scorecard and our own tests of the bundle, on a cluster of our own.
$(eval $(call not-yet,scorecard,operator-sdk scorecard and tests of our own against the bundle))
