"""Kubernetes takes every object: strictly by its schemas, and custom ones by what their controllers need."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_validate import ValidationError, validate  # type: ignore[import-untyped]

from tests.unit.deploy.manifests import Object, all_objects, of_kind

#: The oldest version with all that the manifests use switched on by default, and the newest that there are schemas for.
_VERSIONS = ("1.32", "1.37")
_CUSTOM = {
    "Certificate": "cert-manager.io/v1",
    "Issuer": "cert-manager.io/v1",
    "RayCluster": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
}


@pytest.mark.parametrize("version", _VERSIONS)
def test_the_schemas_accept_every_object(version: str) -> None:
    checked = 0
    for made in all_objects():
        if made["kind"] not in _CUSTOM:
            validate(made, version, strict=True)
            checked += 1
    assert checked > 30


def test_pods_of_custom_objects_are_checked_as_well() -> None:
    templates = []
    for made in all_objects():
        if made["kind"] in ("RayCluster", "RayJob"):
            cluster = made["spec"].get("rayClusterSpec", made["spec"])
            templates += [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]
            templates += [made["spec"]["submitterPodTemplate"]] if made["kind"] == "RayJob" else []
    assert len(templates) == 5
    for template in templates:
        validate({"apiVersion": "v1", "kind": "Pod"} | template, _VERSIONS[-1], strict=True)


def test_a_misspelt_field_is_refused() -> None:
    wrong: Any = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}}
    with pytest.raises(ValidationError, match="portz"):
        validate(wrong, _VERSIONS[-1], strict=True)


def test_custom_objects_have_the_versions_that_their_controllers_read() -> None:
    found = {made["kind"]: made["apiVersion"] for made in all_objects() if made["kind"] in _CUSTOM}
    assert found == _CUSTOM


def test_certificates_are_signed_by_an_issuer_that_exists(objects: tuple[Object, ...]) -> None:
    issuers = {made["metadata"]["name"]: made["spec"] for made in of_kind(objects, "Issuer")}
    made_secrets = set()
    for made in of_kind(objects, "Certificate"):
        spec = made["spec"]
        assert spec["issuerRef"]["name"] in issuers
        made_secrets.add(spec["secretName"])
        service = made["metadata"]["name"]
        if "server auth" in spec.get("usages", ()):
            # The probe asks localhost and shows this certificate; callers ask for the service's name.
            assert {service, f"{service}.isocost.svc", "localhost"} <= set(spec["dnsNames"])
            assert "client auth" in spec["usages"]
    for issuer in issuers.values():
        assert issuer.get("ca", {}).get("secretName") in made_secrets or "selfSigned" in issuer


def test_monitors_find_a_port_of_a_service(objects: tuple[Object, ...]) -> None:
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [made for made in of_kind(objects, "Service") if wanted <= made["metadata"]["labels"].items()]
        assert len(found) == 1
        ports = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_a_sweep_starts_only_when_somebody_starts_it(objects: tuple[Object, ...]) -> None:
    assert all(job["spec"]["suspend"] is True for job in of_kind(objects, "RayJob"))
