# syntax=docker/dockerfile:1

# The server, without torch. `docker build --build-arg DEVICE=cuda .` for NVIDIA GPUs:
#   docker run -p 8001:8001 -p 8002:8002 -v "$PWD/repository:/models:ro" rnnserve
ARG DEVICE=cpu

FROM python:3.12-slim-bookworm AS base-cpu

# The CUDA version that constraints.txt's onnxruntime-gpu is built for.
FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 AS base-cuda
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM base-${DEVICE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY deploy/install.sh deploy/install.sh
COPY client/rnnserve client/rnnserve
COPY server server
COPY inspection inspection
COPY models models
COPY export export
RUN --mount=type=cache,target=/root/.cache/pip deploy/install.sh /opt/rnnserve

FROM base-${DEVICE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rnnserve" \
      org.opencontainers.image.description="Recurrent models over gRPC, with sessions that keep the hidden state" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/rnnserve /opt/rnnserve

# From the environment, so that options after the image's name add to these instead of replacing
# them; whoever gives options of the same name wins.
ENV PATH=/opt/rnnserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RNNSERVE_HOST=0.0.0.0 \
    RNNSERVE_REPOSITORY=/models \
    RNNSERVE_LOG_FORMAT=json

# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 10001:10001
WORKDIR /models
EXPOSE 8001 8002
# start-period: models are loaded and warmed up before the server answers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --start-interval=1s --retries=3 \
    CMD ["python", "-m", "server.healthcheck"]
ENTRYPOINT ["rnnserve", "serve"]
