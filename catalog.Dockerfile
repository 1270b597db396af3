# The image of the file-based catalog, for a CatalogSource with extractContent: OLM brings the opm that serves it. So it holds no program, and
# is the same for every architecture. "make catalog-image" builds it.
ARG CATALOG_DIR=catalog

FROM scratch
ARG CATALOG_DIR
LABEL operators.operatorframework.io.index.configs.v1=/configs
COPY ${CATALOG_DIR}/vmcp-operator /configs/vmcp-operator
COPY LICENSE /licenses/
