"""What every pod must have: no rights that it does not need, bounds, probes, images that stay the same."""

from __future__ import annotations

import re
import tomllib

from tests.unit.deploy.manifests import ROOT, Container, Object, Pod, of_kind

_VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
_TAG = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9][A-Za-z0-9._-]*$")


def _containers(templates: list[Pod]) -> list[Container]:
    return [container for pod in templates for container in pod.containers]


def test_there_is_a_pod_of_each_kind(templates: list[Pod]) -> None:
    components = {pod.labels["app.kubernetes.io/component"] for pod in templates}
    assert components >= {"budget", "labeler", "trainer", "vllm", "migrate"}


def test_images_have_exact_tags(templates: list[Pod]) -> None:
    for container in _containers(templates):
        image = container.spec["image"]
        assert _TAG.match(image), f"{container.name}: {image}"
        name, _, tag = image.partition(":")
        assert tag != "latest"
        assert any(digit in tag for digit in "0123456789")
        if name.startswith("isocost-"):
            assert tag.split("-")[0] == _VERSION, f"{container.name}: {image}"


def test_pods_have_no_rights_on_the_node(templates: list[Pod]) -> None:
    for pod in templates:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), pod.name
        assert not any("hostPath" in volume for volume in pod.spec.get("volumes", ())), pod.name
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        # Links set variables such as ISOCOST_BUDGET_PORT and VLLM_PORT, which mean something else to who reads them.
        assert pod.spec["enableServiceLinks"] is False, pod.name
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.name
        assert security["runAsUser"] > 0, pod.name
        assert security["runAsGroup"] > 0, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name


def test_containers_are_restricted(templates: list[Pod]) -> None:
    for container in _containers(templates):
        assert container.spec["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }, container.name
        assert not any("hostPort" in port for port in container.spec.get("ports", ())), container.name
        # With a root file system that is read-only, something must take the temporary files.
        mounted = {mount["mountPath"] for mount in container.spec["volumeMounts"]}
        assert "/tmp" in mounted, container.name


def test_containers_have_requests_and_limits(templates: list[Pod]) -> None:
    for container in _containers(templates):
        requests, limits = container.spec["resources"]["requests"], container.spec["resources"]["limits"]
        assert {"cpu", "memory"} <= requests.keys(), container.name
        assert requests.keys() == limits.keys(), container.name
        assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu"), container.name


def test_volumes_in_memory_and_on_the_node_are_bounded(templates: list[Pod]) -> None:
    for pod in templates:
        for volume in pod.spec.get("volumes", ()):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], f"{pod.name}: {volume['name']}"


def test_what_runs_for_long_has_probes(templates: list[Pod]) -> None:
    for container in _containers([pod for pod in templates if pod.is_long_running]):
        assert container.probes.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}, container.name


def test_loading_a_model_may_take_half_an_hour(templates: list[Pod]) -> None:
    (vllm,) = [c for c in _containers(templates) if c.pod.labels["app.kubernetes.io/component"] == "vllm"]
    startup = vllm.probes["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800


def test_updates_keep_the_service_up_or_never_run_two(objects: tuple[Object, ...]) -> None:
    rolling = {made["metadata"]["name"]: made["spec"]["strategy"] for made in of_kind(objects, "Deployment")}
    assert rolling["isocost-budget"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    # A second server would need a second GPU.
    assert rolling["isocost-vllm"]["rollingUpdate"]["maxSurge"] == 0
    for made in of_kind(objects, "StatefulSet"):
        assert made["spec"]["replicas"] == 1, made["metadata"]["name"]


def test_the_namespace_enforces_the_restricted_standard(objects: tuple[Object, ...]) -> None:
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_the_gpu_renders_ask_for_gpus(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    with_gpu = {
        container.pod.labels["app.kubernetes.io/component"]
        for container in _containers(templates)
        if "nvidia.com/gpu" in container.spec["resources"]["limits"]
    }
    has_ray = bool(of_kind(objects, "RayCluster"))
    on_cpu = any("vllm-cpu" in c.spec["image"] for c in _containers(templates))
    if has_ray:
        assert with_gpu == {"vllm", "ray"}
    else:
        assert with_gpu in ({"vllm", "trainer"}, set())
    assert not (on_cpu and with_gpu)
