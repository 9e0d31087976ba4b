# syntax=docker/dockerfile:1.7
# The trainer service, and with Ray the nodes of its cluster, which must have the same versions.
#   docker build --file deploy/docker/trainer.Dockerfile --tag isocost-trainer:0.1.0 .
#   docker build --file deploy/docker/trainer.Dockerfile --build-arg DEVICE=gpu --tag isocost-trainer:0.1.0-gpu .
#   docker build --file deploy/docker/trainer.Dockerfile --build-arg DEVICE=gpu --build-arg RAY=1 \
#     --tag isocost-trainer:0.1.0-ray .
FROM python:3.11.14-slim-bookworm AS build
ARG DEVICE=cpu
# For DEVICE=cpu: PyTorch's index of CPU builds; without it a CUDA build comes, which works but is large.
ARG TORCH_INDEX_URL=""
ARG RAY=""
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
# 4-bit weights need CUDA; KubeRay submits jobs through the dashboard, which is in ray[default]. A node of a cluster
# runs whole sweeps, with the report.
RUN extras=trainer,telemetry; \
    if [ "$DEVICE" = gpu ]; then extras="$extras,quantization"; fi; \
    if [ -n "$RAY" ]; then extras="$extras,ray,labeler,budget,agreement,report"; fi; \
    /opt/isocost/bin/pip install --no-cache-dir --constraint requirements/dev.lock \
      --constraint deploy/docker/image.lock ".[$extras]" $(if [ -n "$RAY" ]; then echo "ray[default]"; fi)

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 isocost && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp isocost
COPY --from=build /opt/isocost /opt/isocost
COPY deploy/docker/grpc_probe.py /opt/isocost/grpc_probe.py
ENV PATH=/opt/isocost/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 7603
ENTRYPOINT ["isocost"]
CMD ["serve", "trainer"]
