"""What the documentation says to write works."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.unit.deploy.manifests import KUSTOMIZE, RENDERS, ROOT, kustomize, pods, render

_TEXT = (ROOT / "docs" / "kubernetes.md").read_text()


def test_the_overlay_of_ones_own_renders(tmp_path: Path) -> None:
    render("gpu")  # Skips where there is no kubectl.
    (written,) = re.findall(r"```yaml\n(.*?)```", _TEXT, re.DOTALL)
    place = KUSTOMIZE / "overlays" / "mine"
    target = tmp_path.resolve()
    moved = re.sub(
        r"(?m)^  - (\.\./\S+)", lambda found: f"  - {os.path.relpath(place / found[1], target)}", str(written)
    )
    (target / "kustomization.yaml").write_text(moved)
    by_name = {container.spec["name"]: container for pod in pods(kustomize(target)) for container in pod.containers}
    assert by_name["vllm"].env["MODEL"] == "Qwen/Qwen2.5-1.5B"
    assert by_name["vllm"].env["HF_HOME"] == "/models"
    assert by_name["trainer"].spec["image"] == "registry.example.org/isocost-trainer:0.1.0-gpu"


def test_folders_are_described_and_exist() -> None:
    named = set(re.findall(r"^\| `((?:base|overlays/|components/)[a-z-]*)` \|", _TEXT, re.MULTILINE))
    assert named == {str(path.parent.relative_to(KUSTOMIZE)) for path in KUSTOMIZE.rglob("kustomization.yaml")}
    assert {folder for folder, _ in RENDERS.values()} <= named


def test_images_of_the_manifests_are_built() -> None:
    built = set(re.findall(r"--tag (\S+)", _TEXT))
    used = {
        container.spec["image"] for name in RENDERS for pod in pods(render(name)) for container in pod.containers
    } - {"vllm/vllm-openai:v0.32.0", "postgres:17.6-bookworm"}
    assert used == built


def test_objects_that_commands_name_exist() -> None:
    known = {f"{made['kind'].lower()}/{made['metadata']['name']}" for name in RENDERS for made in render(name)}
    named = set(re.findall(r"\b(?:job|deployment|statefulset|service)/isocost-[a-z]+", _TEXT))
    assert len(named) >= 5
    assert named <= known
