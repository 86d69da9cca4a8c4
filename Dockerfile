# The image of the operator. `make image` assembles the build context on the host, from the locked packages and the
# source, so that the build needs no package index.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
COPY site-packages /opt/asyncflow
COPY asyncflow /opt/asyncflow/asyncflow
ENV PYTHONPATH=/opt/asyncflow PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python3", "-m", "asyncflow"]
CMD ["run"]
