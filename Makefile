# vmcp-operator. "make" lists the targets; hack/make holds them by subject.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# What is released, and what a bundle and an image are called.
VERSION        ?= 0.1.0
IMAGE_REGISTRY ?= ghcr.io/vmcp-dev
IMAGE_TAG      ?= v$(VERSION)
OPERATOR_IMAGE := $(IMAGE_REGISTRY)/vmcp-operator:$(IMAGE_TAG)
RUNTIME_IMAGE  := $(IMAGE_REGISTRY)/vmcp-runtime:$(IMAGE_TAG)

BIN  := bin
DIST := dist
STEP := hack/make/step.sh

# One set of flags for every build that is not a test with -race, so that nothing is compiled twice. They are given on the
# command line, not exported: bin/cluster builds Kubernetes with flags of its own.
GO_PROGRAM := env CGO_ENABLED=0 hack/make/go-program.sh

##@ General

.PHONY: help
help: ## This list.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: clean
clean: ## Remove bin/ and dist/; the caches of Go and of the cluster stay.
	rm -rf "$(BIN)" "$(DIST)"

# A prerequisite that is always out of date: the recipe decides by itself whether there is work, as go build does.
FORCE:

include hack/make/tools.mk
include hack/make/build.mk
include hack/make/generate.mk
include hack/make/test.mk
include hack/make/measure.mk
include hack/make/verify.mk
include hack/make/cluster.mk
include hack/make/bundle.mk
include hack/make/scorecard.mk
include hack/make/release.mk
include hack/make/olm.mk
