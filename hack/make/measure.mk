##@ Measure

# What examines and measures the gateway from outside, as "vmcp serve -f" on loopback. docs/performance.md explains the figures.

# BENCH is smoke (does it run at all), short, or full, which is for figures that are kept. BENCH_RUN picks rows.
BENCH     ?= short
BENCH_RUN ?=
# Where the tables go; empty: to standard output only.
BENCH_OUT ?= $(if $(filter full,$(BENCH)),docs/performance.md)
SOAK_CALLS ?= 200000
# FUZZ picks fuzz targets.
FUZZTIME ?= 5m
FUZZ     ?=
# CONFORMANCE picks rows.
CONFORMANCE ?=

.PHONY: conformance
conformance: $(BIN)/conformance $(BIN)/vmcp $(BIN)/mcp-servers/everything ## The public MCP conformance suites and clients, direct and through the gateway (CONFORMANCE=regexp: some rows). Needs npm.
	@$(STEP) "conformance" $(BIN)/conformance -vmcp $(BIN)/vmcp -server $(BIN)/mcp-servers/everything -run "$(CONFORMANCE)"

.PHONY: bench
bench: $(BIN)/bench $(BIN)/vmcp ## The gateway against a plain reverse proxy (BENCH=smoke|short|full, full into docs/performance.md; BENCH_RUN=regexp).
	@$(STEP) "bench $(BENCH)" $(BIN)/bench -vmcp $(BIN)/vmcp -plan $(BENCH) -run "$(BENCH_RUN)" -profile=$(if $(filter full,$(BENCH)),true,false) -out "$(BENCH_OUT)"

.PHONY: soak
soak: $(BIN)/bench $(BIN)/vmcp ## SOAK_CALLS calls in both eras; the gateway's descriptors, goroutines and memory have to stay flat.
	@$(STEP) "soak" $(BIN)/bench soak -vmcp $(BIN)/vmcp -calls $(SOAK_CALLS)

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (default 5m; FUZZ=regexp: some).
	@$(STEP) "fuzz" hack/make/fuzz.sh $(FUZZTIME) "$(FUZZ)"

$(BIN)/conformance: FORCE
	@$(STEP) "build bin/conformance" $(GO_PROGRAM) $@ -trimpath ./test/conformance
$(BIN)/bench: FORCE
	@$(STEP) "build bin/bench" $(GO_PROGRAM) $@ -trimpath ./test/bench
