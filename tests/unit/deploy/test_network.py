"""Who reaches whom: the policies, read as Kubernetes reads them."""

from __future__ import annotations

from typing import Any

from tests.unit.deploy.manifests import Object, Pod, matches, of_kind

#: Labels of callers that are supplied from outside, and of parts of the cluster that are not ours.
_OUTSIDE = ({"isocost-client": "true"}, {"k8s-app": "kube-dns"})


def _component(pod: Pod) -> str:
    return pod.labels["app.kubernetes.io/component"]


def _policies(objects: tuple[Object, ...], labels: Any, direction: str) -> list[Object]:
    return [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], labels)
    ]


def _allows(rules: list[Object], peers: str, labels: Any, port: int) -> bool:
    """Whether a rule lets a pod of this namespace through."""
    for rule in rules:
        if "ports" in rule and port not in {one["port"] for one in rule["ports"]}:
            continue
        if peers not in rule:
            return True
        for peer in rule[peers]:
            # Pods' addresses are in no block that is written down here, except the whole network.
            if "ipBlock" in peer:
                return True
            if "namespaceSelector" not in peer and matches(peer["podSelector"], labels):
                return True
    return False


def _reaches(objects: tuple[Object, ...], source: Any, target: Any, port: int) -> bool:
    out = [rule for spec in _policies(objects, source, "Egress") for rule in spec.get("egress", ())]
    into = [rule for spec in _policies(objects, target, "Ingress") for rule in spec.get("ingress", ())]
    return _allows(out, "to", target, port) and _allows(into, "from", source, port)


def _who_reaches(objects: tuple[Object, ...], templates: list[Pod], component: str, port: int) -> set[str]:
    targets = [pod for pod in templates if _component(pod) == component]
    assert targets
    return {
        _component(pod) for pod in templates for target in targets if _reaches(objects, pod.labels, target.labels, port)
    }


def test_what_is_not_allowed_is_denied(objects: tuple[Object, ...]) -> None:
    for policy in of_kind(objects, "NetworkPolicy"):
        if policy["metadata"]["name"] == "isocost-default-deny":
            assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
            break
    else:
        raise AssertionError("there is no default policy")


def test_only_the_labeler_reaches_vllm(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    assert _who_reaches(objects, templates, "vllm", 8000) == {"labeler"}


def test_only_the_budget_service_and_its_migration_reach_the_database(
    objects: tuple[Object, ...], templates: list[Pod]
) -> None:
    allowed = set()
    for pod in templates:
        rules = [rule for spec in _policies(objects, pod.labels, "Egress") for rule in spec.get("egress", ())]
        if _allows(rules, "to", {"app.kubernetes.io/component": "postgres"}, 5432):
            allowed.add(_component(pod))
    assert allowed == {"budget", "migrate"}
    if any(_component(pod) == "postgres" for pod in templates):
        assert _who_reaches(objects, templates, "postgres", 5432) == {"budget", "migrate"}


def test_the_services_reach_one_another_only_as_ray_needs(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    has_ray = bool(of_kind(objects, "RayCluster"))
    assert _who_reaches(objects, templates, "budget", 7601) == set()
    assert _who_reaches(objects, templates, "labeler", 7602) == ({"ray"} if has_ray else set())
    assert _who_reaches(objects, templates, "trainer", 7603) == set()
    if has_ray:
        assert _who_reaches(objects, templates, "ray", 10001) == {"ray", "trainer"}
        assert _who_reaches(objects, templates, "ray", 6379) == {"ray"}


def test_callers_carry_a_label(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    for component, port in (("budget", 7601), ("labeler", 7602), ("trainer", 7603), ("vllm", 8000)):
        (target,) = [pod for pod in templates if _component(pod) == component]
        rules = [rule for spec in _policies(objects, target.labels, "Ingress") for rule in spec.get("ingress", ())]
        assert _allows(rules, "from", {"isocost-client": "true"}, port) == (component != "vllm")
        assert not _allows(rules, "from", {"app": "stranger"}, port)


def test_every_selector_selects_something(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    for policy in of_kind(objects, "NetworkPolicy"):
        spec, name = policy["spec"], policy["metadata"]["name"]
        assert any(matches(spec["podSelector"], pod.labels) for pod in templates), name
        peers = [peer for rule in spec.get("ingress", ()) for peer in rule.get("from", ())]
        peers += [peer for rule in spec.get("egress", ()) for peer in rule.get("to", ())]
        for peer in peers:
            if "podSelector" in peer and peer["podSelector"].get("matchLabels") not in _OUTSIDE:
                assert any(matches(peer["podSelector"], pod.labels) for pod in templates), name
        wanted = {port["port"] for rule in spec.get("ingress", ()) for port in rule.get("ports", ())}
        chosen = [pod for pod in templates if matches(spec["podSelector"], pod.labels)]
        assert wanted <= {port for pod in chosen for c in pod.containers for port in c.ports.values()}, name
