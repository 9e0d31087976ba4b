# syntax=docker/dockerfile:1.7
# The budget service, and its migration. From the root of the repository:
#   docker build --file deploy/docker/budget.Dockerfile --tag isocost-budget:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/isocost
COPY . .
# The lock pins what is installed; nothing of it that the service does not need is.
RUN /opt/isocost/bin/pip install --no-cache-dir --constraint requirements/dev.lock \
    ".[postgres,agreement,telemetry,web]"

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 isocost && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp isocost
COPY --from=build /opt/isocost /opt/isocost
COPY deploy/docker/grpc_probe.py /opt/isocost/grpc_probe.py
ENV PATH=/opt/isocost/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 7601 7611
ENTRYPOINT ["isocost"]
CMD ["serve", "budget"]
