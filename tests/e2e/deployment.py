"""The containers of rendered manifests as processes of this machine."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.deploy.manifests import ROOT, Container, Object, of_kind, pods

__all__ = ["Deployment", "Secrets", "issue_certificates"]

LOOPBACK = "127.0.0.1"
#: Secrets by name, with their keys and values.
Secrets = dict[str, dict[str, str]]

#: Where the images have it; see the Dockerfiles.
_PROBE = "/opt/isocost/grpc_probe.py"
_POLL_SECONDS = 0.5
_LOG_TAIL_CHARS = 6_000


@dataclass(frozen=True)
class _Process:
    """A container's main process."""

    container: Container
    popen: subprocess.Popen[bytes]


class Deployment:
    """Starts containers as processes, and ends what is left of them; an error in the block carries their logs.

    Usage::

        with Deployment(render("cpu-dev"), tmp_path, secrets) as deployment:
            deployment.start("Deployment/isocost-budget")
            deployment.wait_ready("Deployment/isocost-budget")

    Args:
        objects: The rendered manifests.
        folder: Where volumes and logs lie.
        secrets: The Secrets that the manifests name and do not hold.
        patches: Values of variables, as an overlay of one's own would set them.
    """

    def __init__(self, objects: tuple[Object, ...], folder: Path, secrets: Secrets, patches: Mapping[str, str]) -> None:
        self._folder = folder
        self._secrets = secrets
        self._patches = patches
        self._config_maps = {made["metadata"]["name"]: made["data"] for made in of_kind(objects, "ConfigMap")}
        self._hosts = [made["metadata"]["name"] for made in of_kind(objects, "Service")]
        self._containers = {pod.name: pod.containers[0] for pod in pods(objects)}
        numbers = sorted({number for made in self._containers.values() for number in made.ports.values()})
        self._ports = dict(zip(numbers, _free_ports(len(numbers)), strict=True))
        self._processes: dict[str, _Process] = {}
        for name, files in secrets.items():
            for key, value in files.items():
                path = self._volume_folder(f"secret-{name}") / key
                path.write_text(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        for process in self._processes.values():
            # The group has what the process started, and is of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait()
        if error is not None:
            for path in sorted(self._folder.glob("*.log")):
                error.add_note(f"--- {path.name}\n{path.read_text(errors='replace')[-_LOG_TAIL_CHARS:]}")

    def address(self, name: str, port: str = "grpc") -> str:
        """Where a container listens, by the name of the port."""
        return f"{LOOPBACK}:{self._ports[self._containers[name].ports[port]]}"

    def secret_file(self, secret: str, key: str) -> Path:
        """A key of a Secret, as a pod would mount it."""
        return self._volume_folder(f"secret-{secret}") / key

    def on_this_machine(self, container: Container, text: str) -> str:
        """What a word of a command, or a variable's value, has to be where there is no cluster."""
        # Pods have addresses of their own; here all share one, with whatever else runs.
        text = re.sub(
            rf"(?<!\d)({'|'.join(map(str, self._ports))})(?!\d)", lambda found: str(self._ports[int(found[1])]), text
        )
        # No network policy guards this machine.
        text = text.replace("0.0.0.0", LOOPBACK)
        # Nor has it the cluster's DNS.
        text = re.sub(rf"//(?:{'|'.join(self._hosts)})(?=[:/]|$)", f"//{LOOPBACK}", text)
        # Volumes are folders of the test, the same one for all who mount the same claim or Secret.
        paths = self._mounts(container) | {_PROBE: str(ROOT / "deploy" / "docker" / "grpc_probe.py")}
        longest_first = sorted(paths, key=len, reverse=True)
        return re.sub(rf"^({'|'.join(map(re.escape, longest_first))})(?=/|$)", lambda found: paths[found[1]], text)

    def environment(self, name: str) -> dict[str, str]:
        """All variables of a container, the image's own included."""
        container = self._containers[name]
        tmp = self._mounts(container).get("/tmp", str(self._folder))
        # As in the Dockerfiles; the image's packages are those of this Python.
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": tmp,
            "TMPDIR": tmp,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # The machine has few cores, and several processes on them.
            "OMP_NUM_THREADS": "1",
        }
        for one in container.spec.get("env", ()):
            if one["name"] in self._patches:
                variables[one["name"]] = self._patches[one["name"]]
            elif "value" in one:
                variables[one["name"]] = self.on_this_machine(container, one["value"])
            elif (value := self._referred(one["valueFrom"])) is not None:
                variables[one["name"]] = value
        return variables

    def run(self, name: str, command: Sequence[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a container's command, or another one in it as `kubectl exec` does, to its end."""
        container = self._containers[name]
        return subprocess.run(
            self._command(name) if command is None else command,
            env=self.environment(name),
            cwd=self._volume_folder(_file_name(container)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, name: str) -> None:
        """Starts a container's command."""
        container = self._containers[name]
        with (self._folder / f"{_file_name(container)}.log").open("wb") as log:
            popen = subprocess.Popen(
                self._command(name),
                env=self.environment(name),
                cwd=self._volume_folder(_file_name(container)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes[name] = _Process(container, popen)

    def wait_ready(self, name: str) -> None:
        """Asks the start-up and then the readiness probe until each passes, as often as the start-up probe may fail.

        Raises:
            AssertionError: the process ended, or the probe never passed.
        """
        container, popen = self._containers[name], self._processes[name].popen
        start = container.probes["startupProbe"]
        last = time.monotonic() + start["periodSeconds"] * start["failureThreshold"]
        for kind in ("startupProbe", "readinessProbe"):
            while wrong := self._probe(name, container.probes[kind]):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    popen.wait(_POLL_SECONDS)
                    raise AssertionError(f"{name} ended with {popen.returncode}")
                assert time.monotonic() < last, f"{kind} of {name}: {wrong}"

    def stop(self) -> dict[str, int]:
        """SIGTERM to every main process, as Kubernetes does; their exit codes.

        Raises:
            subprocess.TimeoutExpired: one would have been killed at the end of its pod's grace period.
        """
        for process in self._processes.values():
            process.popen.send_signal(signal.SIGTERM)
        return {
            name: process.popen.wait(process.container.pod.spec["terminationGracePeriodSeconds"])
            for name, process in self._processes.items()
        }

    def _command(self, name: str) -> list[str]:
        container, variables = self._containers[name], self.environment(name)
        words = [self.on_this_machine(container, word) for word in container.command]
        # Kubernetes itself puts variables in place of $(NAME).
        return [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], word) for word in words]

    def _probe(self, name: str, probe: Object) -> str:
        """What is wrong by a probe, or ""."""
        container = self._containers[name]
        if "httpGet" in probe:
            port = self._ports[container.ports[probe["httpGet"]["port"]]]
            url = f"http://{LOOPBACK}:{port}{probe['httpGet']['path']}"
            try:
                with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]) as answer:
                    return "" if answer.status == 200 else f"{url}: {answer.status}"
            except OSError as error:
                return f"{url}: {error}"
        command = [self.on_this_machine(container, word) for word in probe["exec"]["command"]]
        # Its own default is a path in the container.
        command += ["--ca", self.on_this_machine(container, "/etc/isocost/tls/ca.crt")]
        try:
            done = subprocess.run(
                command,
                env=self.environment(name),
                capture_output=True,
                text=True,
                timeout=probe["timeoutSeconds"],
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return str(error)
        return "" if done.returncode == 0 else done.stderr or str(done.returncode)

    def _referred(self, reference: Object) -> str | None:
        """The value of a key of a Secret or a ConfigMap; None for an optional one that is not there."""
        ((kind, key),) = reference.items()
        stored: Mapping[str, Mapping[str, str]] = {
            "secretKeyRef": self._secrets,
            "configMapKeyRef": self._config_maps,
        }[kind]
        if key.get("optional") and key["name"] not in stored:
            return None
        return stored[key["name"]][key["key"]]

    def _mounts(self, container: Container) -> dict[str, str]:
        """Folders by mount path."""
        folders = {}
        for volume in container.pod.spec.get("volumes", ()):
            if "secret" in volume:
                folder = f"secret-{volume['secret']['secretName']}"
            elif "persistentVolumeClaim" in volume:
                folder = f"claim-{volume['persistentVolumeClaim']['claimName']}"
            else:
                folder = f"{_file_name(container)}-{volume['name']}"
            folders[volume["name"]] = str(self._volume_folder(folder))
        return {
            mount["mountPath"]: folders[mount["name"]]
            for mount in container.spec.get("volumeMounts", ())
            if mount["name"] in folders
        }

    def _volume_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def issue_certificates(objects: tuple[Object, ...]) -> Secrets:
    """The Secrets that cert-manager would make of the Certificate objects, signed by one authority."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("isocost", authority_key, authority_key, None)
    secrets: Secrets = {}
    for made in of_kind(objects, "Certificate"):
        spec = made["spec"]
        if spec.get("isCA"):
            continue
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(spec["commonName"], key, authority_key, spec)
        secrets[spec["secretName"]] = {
            "tls.crt": _pem(certificate),
            "tls.key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "ca.crt": _pem(authority),
        }
    return secrets


def _sign(
    name: str, key: ec.EllipticCurvePrivateKey, authority_key: ec.EllipticCurvePrivateKey, spec: Object | None
) -> x509.Certificate:
    """A certificate by the specification of a Certificate object; None for the authority's own."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "isocost")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=spec is None, path_length=None), critical=True)
    )
    if spec is not None:
        usages = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
        allowed = [usages[usage] for usage in spec["usages"] if usage in usages]
        names = [x509.DNSName(dns_name) for dns_name in spec["dnsNames"]]
        builder = builder.add_extension(x509.ExtendedKeyUsage(allowed), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _file_name(container: Container) -> str:
    return container.pod.name.partition("/")[2]


def _free_ports(n_ports: int) -> Iterator[int]:
    """Different ports that nothing listens on; another program may still take one before its process does."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n_ports)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        ports = [int(probe.getsockname()[1]) for probe in probes]
    yield from ports
