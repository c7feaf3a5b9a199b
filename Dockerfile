# The agent's image: Python, git and ssh out of Debian's packages, and nothing that is not needed.
#
# `make image` builds it. By hand: buildah bud --format docker --build-arg BASE=debian:12.12-slim .
# BASE is any Debian 12; it is built with, and none of it is shipped but the packages that
# deploy/image/packages.txt names. Pin it by digest where the builder reaches a registry.
ARG BASE=debian:12.12-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Versions are those of Debian 12 on the day: security updates must come in, and the SBOM names them.
# hadolint ignore=DL3008,DL3009
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils python3-venv
WORKDIR /src
COPY deploy/image image
# A builder behind a proxy of its own gives that one's certificates as the secret `ca`.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && python3 -m venv /tools \
 && /tools/bin/pip wheel --no-cache-dir --quiet --require-hashes --wheel-dir /wheels --requirement image/requirements.lock \
 && /tools/bin/pip install --no-cache-dir --quiet --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY dsgitops dsgitops
# Of the wheels only what dsgitops needs to run: the lock also has what builds it. The Kubernetes client
# asks for aiohttp and its kin for its asyncio half, which rootfs.sh leaves out.
RUN /tools/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python3 -m venv --without-pip /opt/dsgitops \
 && /tools/bin/pip --python /opt/dsgitops/bin/python install --no-cache-dir --quiet --no-compile \
      --no-index --find-links /wheels 'dsgitops[notify]' \
 && /tools/bin/pip --python /opt/dsgitops/bin/python uninstall --quiet --yes \
      aiohttp aiohttp-retry aiohappyeyeballs aiosignal attrs frozenlist multidict propcache yarl
RUN image/rootfs.sh /rootfs \
 && /tools/bin/pip --python /opt/dsgitops/bin/python inspect > /tmp/python.json \
 && mkdir -p /rootfs/usr/share/sbom \
 && python3 image/sbom.py /tmp/python.json /rootfs/var/lib/dpkg/status.d > /rootfs/usr/share/sbom/dsgitops.cdx.json

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dsgitops" \
      org.opencontainers.image.description="Keeps the DaemonSets of a cluster as Git has them, and puts back what worked." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
ENV PATH=/opt/dsgitops/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 \
    HOME=/tmp
WORKDIR /tmp
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opt/dsgitops/bin/python", "-I", "-m", "dsgitops"]
CMD ["--help"]
