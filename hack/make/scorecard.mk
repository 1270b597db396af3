##@ Scorecard

# Our own tests for operator-sdk's scorecard, as the bundle names them.
SCORECARD_IMAGE := $(IMAGE_REGISTRY)/vmcp-scorecard-tests:v$(VERSION)
# A runtime that says its part of the status under another's name: with it the test of ownership has to fail.
BROKEN_RUNTIME_IMAGE := $(IMAGE_REGISTRY)/vmcp-runtime-broken:$(IMAGE_TAG)

$(BIN)/scorecard-tests: FORCE
	@$(STEP) "build bin/scorecard-tests" $(GO_PROGRAM) $@ -trimpath -ldflags "-s -w" ./test/scorecard
$(BIN)/broken/vmcp: FORCE
	@mkdir -p $(@D)
	@$(STEP) "build bin/broken/vmcp" $(GO_PROGRAM) $@ -trimpath -ldflags "$(LDFLAGS)" -tags vmcp_broken_ownership ./cmd/vmcp
$(BIN)/images/scorecard-tests.tar: Dockerfile $(BIN)/scorecard-tests $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,scorecard-tests,$(SCORECARD_IMAGE))
$(BIN)/images/broken-runtime.tar: Dockerfile $(BIN)/broken/vmcp $(BIN)/imagetool $(BIN)/images/names
	$(call image,$<,broken-runtime,$(BROKEN_RUNTIME_IMAGE))

SCORECARD_IMAGES := $(addprefix $(BIN)/images/,operator.tar runtime.tar scorecard-tests.tar broken-runtime.tar)

.PHONY: scorecard
scorecard: $(BIN)/cluster $(OPERATOR_SDK) $(GOTESTSUM) $(SCORECARD_IMAGES) ## operator-sdk's scorecard and our own tests of the bundle, on a cluster of our own with OLM's images. Needs root.
	@$(STEP) "cluster up olm" $(BIN)/cluster up olm
	@$(STEP) "load images" $(BIN)/cluster load-image $(SCORECARD_IMAGES)
	@eval "$$($(BIN)/cluster env)"; VMCP_OPERATOR_SDK=$(CURDIR)/$(OPERATOR_SDK) BROKEN_RUNTIME_IMAGE=$(BROKEN_RUNTIME_IMAGE) \
	CGO_ENABLED=0 $(STEP) "scorecard" $(GOTESTSUM) --format standard-verbose -- -trimpath -tags e2e -count=1 -timeout 30m -run TestScorecard ./test/scorecard
