# The image of the file-based catalog: opm serves it, and OLM probes it with grpc_health_probe. "make catalog-image" builds it.
ARG CATALOG_DIR=catalog

FROM scratch
ARG CATALOG_DIR
LABEL operators.operatorframework.io.index.configs.v1=/configs
COPY bin/tools/opm bin/tools/grpc_health_probe /bin/
COPY ${CATALOG_DIR}/vmcp-operator /configs/vmcp-operator
COPY LICENSE /licenses/
# opm unpacks the catalog into a cache. /dev/shm is there in every container, whatever its user (OpenShift picks one) and even if the
# root file system is read-only.
ENV TMPDIR=/dev/shm
USER 1001:1001
ENTRYPOINT ["/bin/opm"]
CMD ["serve", "/configs", "--cache-dir=/dev/shm/opm", "--cache-enforce-integrity=false"]
