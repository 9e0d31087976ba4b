"""The manifests as Kubernetes gets them: rendered by kubectl, with their pods picked out."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUSTOMIZE = ROOT / "deploy" / "kustomize"
#: What is rendered: a folder, with the optional components added to it.
RENDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "base": ("base", ()),
    "cpu-dev": ("overlays/cpu-dev", ()),
    "gpu": ("overlays/gpu", ()),
    "ray": ("overlays/ray", ()),
    "cpu-dev with all": ("overlays/cpu-dev", ("cert-manager", "monitoring")),
    "gpu with all": ("overlays/gpu", ("cert-manager", "monitoring")),
    "ray with all": ("overlays/ray", ("cert-manager", "monitoring")),
}

Object = dict[str, Any]


@functools.cache
def render(name: str) -> tuple[Object, ...]:
    """The objects of a render, by `kubectl kustomize`; skips the test where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the manifests cannot be rendered")
    folder, components = RENDERS[name]
    with tempfile.TemporaryDirectory() as made:
        target = KUSTOMIZE / folder
        if components:
            target = Path(made).resolve()
            kustomization = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(KUSTOMIZE / folder, target)],
                "components": [os.path.relpath(KUSTOMIZE / "components" / part, target) for part in components],
            }
            (target / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(target)


def kustomize(folder: Path) -> tuple[Object, ...]:
    """The objects of a folder with a kustomization."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # Deprecated fields are warnings.
    assert not done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def all_objects() -> Iterator[Object]:
    """The objects of all renders, the same ones once."""
    seen = set()
    for name in RENDERS:
        for made in render(name):
            key = json.dumps(made, sort_keys=True)
            if key not in seen:
                seen.add(key)
                yield made


@dataclass(frozen=True)
class Container:
    """A container with the pod around it."""

    spec: Object
    pod: Pod

    @property
    def name(self) -> str:
        return f"{self.pod.name}/{self.spec['name']}"

    @property
    def command(self) -> list[str]:
        return [*self.spec.get("command", ()), *self.spec.get("args", ())]

    @property
    def env(self) -> dict[str, str]:
        """The variables; a value from a Secret is its reference."""
        return {
            one["name"]: one["value"] if "value" in one else json.dumps(one["valueFrom"])
            for one in self.spec.get("env", ())
        }

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.spec.get("ports", ())}

    @property
    def probes(self) -> dict[str, Object]:
        return {
            kind: self.spec[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in self.spec
        }


@dataclass(frozen=True)
class Pod:
    """A template of pods."""

    name: str
    labels: Mapping[str, str]
    spec: Object
    is_long_running: bool
    entrypoint: tuple[str, ...] = ()
    """A command that Ray executes in it."""

    @property
    def containers(self) -> list[Container]:
        return [Container(one, self) for one in (*self.spec.get("initContainers", ()), *self.spec["containers"])]


def pods(objects: tuple[Object, ...]) -> list[Pod]:
    """The templates of pods in a render."""
    return [pod for made in objects for pod in _pods_of(made)]


def _pods_of(made: Object) -> Iterator[Pod]:
    kind, name = made["kind"], f"{made['kind']}/{made['metadata']['name']}"
    if kind in ("Deployment", "StatefulSet", "Job"):
        yield _pod(name, made["spec"]["template"], is_long_running=kind != "Job")
    elif kind == "RayCluster":
        yield from _ray_pods(name, made["spec"])
    elif kind == "RayJob":
        yield from _ray_pods(name, made["spec"]["rayClusterSpec"], tuple(shlex.split(made["spec"]["entrypoint"])))
        yield _pod(f"{name}/submitter", made["spec"]["submitterPodTemplate"], is_long_running=False)


def _ray_pods(name: str, cluster: Object, entrypoint: tuple[str, ...] = ()) -> Iterator[Pod]:
    yield _pod(f"{name}/head", cluster["headGroupSpec"]["template"], is_long_running=True, entrypoint=entrypoint)
    for group in cluster["workerGroupSpecs"]:
        yield _pod(f"{name}/{group['groupName']}", group["template"], is_long_running=True)


def _pod(name: str, template: Object, *, is_long_running: bool, entrypoint: tuple[str, ...] = ()) -> Pod:
    return Pod(name, template["metadata"]["labels"], template["spec"], is_long_running, entrypoint)


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [made for made in objects if made["kind"] == kind]


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects labels."""
    wanted = selector.get("matchLabels", {}).items()
    assert {one["operator"] for one in selector.get("matchExpressions", ())} <= {"In"}
    return all(labels.get(key) == value for key, value in wanted) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ())
    )
