# The product's images. "make build" leaves the static binaries in bin/; nothing runs here, so any tool that can copy
# files builds this file: docker, buildah, or hack/images ("make images"). No shell, no package manager, no root.

FROM scratch AS operator
LABEL org.opencontainers.image.title="vmcp-operator" \
      org.opencontainers.image.description="Provisions one MCP gateway per VirtualMCPServer" \
      org.opencontainers.image.source="https://github.com/vmcp-dev/vmcp-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]

FROM scratch AS runtime
LABEL org.opencontainers.image.title="vmcp-runtime" \
      org.opencontainers.image.description="The MCP gateway: discovers backends and serves their tools behind one endpoint" \
      org.opencontainers.image.source="https://github.com/vmcp-dev/vmcp-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/vmcp /vmcp
USER 65532:65532
ENTRYPOINT ["/vmcp"]

# Our own tests for operator-sdk's scorecard, which the bundle's tests/scorecard/config.yaml names.
FROM scratch AS scorecard-tests
LABEL org.opencontainers.image.title="vmcp-scorecard-tests" \
      org.opencontainers.image.description="Scorecard tests of the vmcp-operator bundle" \
      org.opencontainers.image.source="https://github.com/vmcp-dev/vmcp-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/scorecard-tests /scorecard-tests
USER 65532:65532
ENTRYPOINT ["/scorecard-tests"]

# A runtime that writes the status under a field manager that is not its own. It exists to see the test of ownership fail, and is never released.
FROM scratch AS broken-runtime
COPY bin/broken/vmcp /vmcp
USER 65532:65532
ENTRYPOINT ["/vmcp"]
