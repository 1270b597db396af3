##@ Cluster

# A Kubernetes of our own, built from Go modules: hack/cluster. "node" runs pods and needs root; "cp" is the API alone.
CLUSTER_MODE ?= node

.PHONY: cluster-up
cluster-up: $(BIN)/cluster ## Start a local cluster (CLUSTER_MODE=node or cp). Needs root.
	@$(STEP) "cluster up" $(BIN)/cluster up $(CLUSTER_MODE)

.PHONY: cluster-down
cluster-down: $(BIN)/cluster ## Stop it and remove all it left on this machine.
	@$(STEP) "cluster down" $(BIN)/cluster down

.PHONY: load-images
load-images: cluster-up images demo-images $(E2E_SERVERS:%=$(BIN)/images/e2e-%.tar)
	@$(STEP) "load images" $(BIN)/cluster load-image $(addprefix $(BIN)/images/,operator.tar runtime.tar demo-kubernetes.tar demo-filesystem.tar demo-everything.tar $(E2E_SERVERS:%=e2e-%.tar))

##@ Demo

# DEMO_CONTEXT names an existing kube context; its cluster then pulls the images from IMAGE_REGISTRY.
DEMO_CONTEXT ?=

.PHONY: demo
demo: $(BIN)/demo $(if $(DEMO_CONTEXT),,$(BIN)/cluster images demo-images) ## The whole system on a real cluster, with MCP servers that others wrote (DEMO_CONTEXT=name: on yours).
	@DEMO_CONTEXT="$(DEMO_CONTEXT)" IMAGE_REGISTRY="$(IMAGE_REGISTRY)" IMAGE_TAG="$(IMAGE_TAG)" $(BIN)/demo

.PHONY: demo-down
ifeq ($(DEMO_CONTEXT),)
demo-down: demo-stop cluster-down ## Undo it: stop the cluster (DEMO_CONTEXT=name: remove the demo and the operator from yours).
else
demo-down: demo-stop $(KUSTOMIZE)
	@$(STEP) "delete namespace demo" kubectl --context "$(DEMO_CONTEXT)" delete namespace demo --ignore-not-found
	@$(KUSTOMIZE) build config/samples/demo | $(STEP) "delete the demo's cluster-wide objects" kubectl --context "$(DEMO_CONTEXT)" delete --ignore-not-found -f -
	@$(KUSTOMIZE) build config/default | $(STEP) "delete the operator" kubectl --context "$(DEMO_CONTEXT)" delete --ignore-not-found -f -
endif

# What "make demo" left running on this machine to reach the gateway.
.PHONY: demo-stop
demo-stop: $(BIN)/demo
	@DEMO_CONTEXT="$(DEMO_CONTEXT)" $(STEP) "stop forwarding" $(BIN)/demo stop

$(BIN)/demo: FORCE
	@$(STEP) "build bin/demo" $(GO_PROGRAM) $@ -C hack/demo -trimpath .
