# The image of the file-based catalog: opm serves it, and OLM probes it with grpc_health_probe. "make catalog-image" builds it.
ARG CATALOG_DIR=catalog

FROM scratch
ARG CATALOG_DIR
LABEL operators.operatorframework.io.index.configs.v1=/configs
COPY bin/tools/opm bin/tools/grpc_health_probe /bin/
COPY ${CATALOG_DIR}/vmcp-operator /configs/vmcp-operator
# opm builds its cache by way of /tmp, which therefore has to be there, in a folder with nothing else in it.
COPY --chown=1001:1001 LICENSE /tmp/
USER 1001:1001
ENTRYPOINT ["/bin/opm"]
CMD ["serve", "/configs", "--cache-dir=/tmp/opm", "--cache-enforce-integrity=false"]
