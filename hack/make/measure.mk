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
# SEED is what the faults of "make truth" follow from, 0 one that is not known before; TRUTH_TIME how long they go on, and TRUTH_OUT
# where the tables go besides standard output.
SEED       ?= 0
TRUTH_TIME ?= 10m
TRUTH_OUT  ?=

.PHONY: conformance
conformance: $(BIN)/conformance $(BIN)/vmcp $(BIN)/mcp-servers/everything ## The public MCP conformance suites and clients, direct and through the gateway (CONFORMANCE=regexp: some rows). Needs npm.
	@$(STEP) "conformance" $(BIN)/conformance -vmcp $(BIN)/vmcp -server $(BIN)/mcp-servers/everything -run "$(CONFORMANCE)"

.PHONY: bench
bench: $(BIN)/bench $(BIN)/vmcp ## The gateway against a plain reverse proxy (BENCH=smoke|short|full, full into docs/performance.md; BENCH_RUN=regexp).
	@$(STEP) "bench $(BENCH)" $(BIN)/bench -vmcp $(BIN)/vmcp -plan $(BENCH) -run "$(BENCH_RUN)" -profile=$(if $(filter full,$(BENCH)),true,false) -out "$(BENCH_OUT)"

.PHONY: soak
soak: $(BIN)/bench $(BIN)/vmcp ## SOAK_CALLS calls in both eras; the gateway's descriptors, goroutines and memory have to stay flat.
	@$(STEP) "soak" $(BIN)/bench soak -vmcp $(BIN)/vmcp -calls $(SOAK_CALLS)

.PHONY: truth
truth: $(BIN)/cluster $(BIN)/operator $(BIN)/vmcp $(BIN)/truth $(KWOK) ## Random faults (SEED=n to repeat) for ten minutes (TRUTH_TIME): does the status lie, or the list of tools, and how long do they lag?
	@TRUTH_OUT="$(TRUTH_OUT)" hack/make/truth.sh $(SEED) $(TRUTH_TIME) $(BIN) $(KWOK)

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (default 5m; FUZZ=regexp: some).
	@$(STEP) "fuzz" hack/make/fuzz.sh $(FUZZTIME) "$(FUZZ)"

$(BIN)/conformance: FORCE
	@$(STEP) "build bin/conformance" $(GO_PROGRAM) $@ -trimpath ./test/conformance
$(BIN)/bench: FORCE
	@$(STEP) "build bin/bench" $(GO_PROGRAM) $@ -trimpath ./test/bench
$(BIN)/truth: FORCE
	@$(STEP) "build bin/truth" $(GO_PROGRAM) $@ -trimpath ./test/truth
