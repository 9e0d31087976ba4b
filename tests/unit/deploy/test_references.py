"""What an object names exists: in the render, or in the documentation's list of what is supplied from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.unit.deploy.manifests import RENDERS, ROOT, Object, Pod, matches, of_kind, pods, render

#: A row of the table: `name` | keys | ...
_ROW = re.compile(r"^\| (Secret|ConfigMap) `([a-z-]+)` \| ([^|]+) \|", re.MULTILINE)


def _outside() -> dict[tuple[str, str], set[str]]:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    return {(kind, name): set(re.findall(r"`([^`]+)`", keys)) for kind, name, keys in _ROW.findall(text)}


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _needed(objects: tuple[Object, ...]) -> Iterator[tuple[str, str, set[str]]]:
    """Kind, name and keys of what pods and monitors read."""
    for pod in pods(objects):
        for part in _walk(pod.spec):
            if "secretKeyRef" in part:
                yield "Secret", part["secretKeyRef"]["name"], {part["secretKeyRef"]["key"]}
            if "configMapKeyRef" in part:
                yield "ConfigMap", part["configMapKeyRef"]["name"], {part["configMapKeyRef"]["key"]}
        for volume in pod.spec.get("volumes", ()):
            files = {
                mount["mountPath"]
                for container in pod.containers
                for mount in container.spec["volumeMounts"]
                if mount["name"] == volume["name"]
            }
            texts = [word for container in pod.containers for word in (*container.env.values(), *container.command)]
            texts += pod.entrypoint
            read = {text.rpartition("/")[2] for text in texts if text.rpartition("/")[0] in files}
            if "secret" in volume:
                # The probe reads the authorities.
                yield "Secret", volume["secret"]["secretName"], read | {"ca.crt"}
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"], read
    for monitor in of_kind(objects, "ServiceMonitor"):
        for part in _walk(monitor["spec"]):
            secret = part.get("secret", part.get("keySecret"))
            if secret is not None:
                yield "Secret", secret["name"], {secret["key"]}


def test_secrets_and_config_maps_are_there_or_documented(objects: tuple[Object, ...]) -> None:
    made = {("Secret", one["spec"]["secretName"]) for one in of_kind(objects, "Certificate")}
    made |= {("ConfigMap", one["metadata"]["name"]) for one in of_kind(objects, "ConfigMap")}
    outside = _outside()
    for kind, name, keys in _needed(objects):
        if (kind, name) not in made:
            assert keys <= outside.get((kind, name), set()), f"{kind} {name}: {keys}"


def test_the_documentation_asks_for_nothing_that_is_not_read() -> None:
    needed = {(kind, name) for one in RENDERS for kind, name, _ in _needed(render(one))}
    assert _outside().keys() == needed


def test_no_secret_is_in_a_manifest(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    assert not of_kind(objects, "Secret")
    for pod in templates:
        for container in pod.containers:
            for one in container.spec.get("env", ()):
                if re.search(r"(PASSWORD|TOKEN|API_KEY|DATABASE_URL)$", one["name"]):
                    assert "secretKeyRef" in one["valueFrom"], f"{container.name}: {one['name']}"


def test_volumes_and_accounts_exist(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    claims = {made["metadata"]["name"] for made in of_kind(objects, "PersistentVolumeClaim")}
    accounts = {made["metadata"]["name"] for made in of_kind(objects, "ServiceAccount")}
    used = set()
    for pod in templates:
        assert pod.spec["serviceAccountName"] in accounts
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
        if pod.labels["app.kubernetes.io/component"] == "postgres":
            volumes |= {"data"}
        mounted = {mount["name"] for container in pod.containers for mount in container.spec["volumeMounts"]}
        assert mounted == volumes, pod.name
        for volume in pod.spec.get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                used.add(volume["persistentVolumeClaim"]["claimName"])
    assert used == claims


def test_everything_is_in_one_namespace(objects: tuple[Object, ...]) -> None:
    for made in objects:
        if made["kind"] != "Namespace":
            assert made["metadata"]["namespace"] == "isocost", made["metadata"]["name"]


def test_names_are_unique(objects: tuple[Object, ...]) -> None:
    names = [(made["kind"], made["metadata"]["name"]) for made in objects]
    assert len(names) == len(set(names))


def test_selectors_select_pods(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    for made in objects:
        if made["kind"] in ("Deployment", "StatefulSet"):
            labels = made["spec"]["template"]["metadata"]["labels"]
            assert matches(made["spec"]["selector"], labels)
        if made["kind"] == "PodDisruptionBudget":
            assert sum(matches(made["spec"]["selector"], pod.labels) for pod in templates) == 1
        if made["kind"] == "HorizontalPodAutoscaler":
            target = made["spec"]["scaleTargetRef"]
            (scaled,) = [one for one in of_kind(objects, target["kind"]) if one["metadata"]["name"] == target["name"]]
            # A number of its own would undo the autoscaler's at every apply.
            assert "replicas" not in scaled["spec"]
            assert made["spec"]["minReplicas"] >= 2
