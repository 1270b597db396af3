# The image of the file-based catalog: opm serves it, and OLM probes it with grpc_health_probe. "make catalog-image" builds it.
ARG CATALOG_DIR=catalog

FROM scratch
ARG CATALOG_DIR
LABEL operators.operatorframework.io.index.configs.v1=/configs
COPY bin/tools/opm bin/tools/grpc_health_probe /bin/
COPY ${CATALOG_DIR}/vmcp-operator /configs/vmcp-operator
# opm makes its cache where it finds nothing, in a folder that it may write into; a folder is in an image with a file.
COPY --chown=1001:1001 LICENSE /tmp/
USER 1001:1001
ENTRYPOINT ["/bin/opm"]
CMD ["serve", "/configs", "--cache-dir=/tmp/cache", "--cache-enforce-integrity=false"]
