# The image of tidegate: one binary and the certificates of public authorities, on a system without anything else of ours.
# It runs as an ordinary user and writes nothing to its own file system, so `readOnlyRootFilesystem: true` is fine; a local
# warehouse, catalog database included, is the one path that has to be writable (tests/e2e/test_confined.py).
#
#   docker build -t tidegate .
#   docker run --rm --read-only -v "$PWD/jobs:/work/jobs:ro" -v "$PWD/warehouse:/work/warehouse" \
#     -e KAFKA_BOOTSTRAP_SERVERS=kafka:9092 tidegate run jobs/articles.toml

# The toolchain of rust-toolchain.toml, which is left outside so that rustup does not fetch lint tools into the image.
ARG RUST_VERSION=1.95.0
ARG DEBIAN_RELEASE=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN_RELEASE} AS build
# librdkafka's configure script wants a C++ compiler and make, OpenSSL's wants perl; zlib, zstd and SQLite are vendored C too.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# Sources and compiled dependencies stay in the builder's cache; the binary has to be copied out of it in the same step.
# Line tables are stripped, function names kept for backtraces.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked \
    && objcopy --strip-debug target/release/tidegate /tidegate

FROM debian:${DEBIAN_RELEASE}-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="Moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /tidegate /usr/local/bin/tidegate
# Job files and local warehouses are mounted below it, and relative paths start here.
WORKDIR /work
# A number, so that Kubernetes can see for itself that it is not root (`runAsNonRoot: true`).
USER 65532:65532
ENTRYPOINT ["tidegate"]
CMD ["--help"]
