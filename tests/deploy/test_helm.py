"""The chart of deploy/helm, rendered by Helm and checked against the schemas of Kubernetes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.selection import read_config
from tests.deploy.charts import CHART, EXAMPLES, NAMESPACE, Manifests, manifests, render
from tests.deploy.tools import crds, helm, tool

pytestmark = pytest.mark.slow
KUBERNETES = "1.37"
CUSTOM = ("HTTPRoute", "ScaledObject", "ServiceMonitor")
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def example(name: str, *arguments: str) -> Manifests:
    return manifests(CHART / "examples" / f"{name}.yaml", *arguments)


def of_container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def selects(selector: dict[str, Any], pod: dict[str, Any]) -> bool:
    labels = pod["metadata"]["labels"]
    excluded = [
        each["values"]
        for each in selector.get("matchExpressions", ())
        if each["operator"] == "NotIn"
    ]
    component = labels["app.kubernetes.io/component"]
    return selector["matchLabels"].items() <= labels.items() and not any(
        component in values for values in excluded
    )


def test_helm_lints_it() -> None:
    done = subprocess.run(
        [helm(), "lint", "--strict", CHART], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@each_example
def test_every_object_is_what_kubernetes_takes(path: Path, tmp_path: Path) -> None:
    made = manifests(path)
    custom = made.of(*CUSTOM)
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.dump_all([each for each in made.objects if each not in custom]))
    command = [tool("kubernetes-validate"), "--strict", "--version", KUBERNETES, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = crds()
    checked = subprocess.run(
        ["node", folder / "check.mjs"],
        input=json.dumps(custom),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


@each_example
def test_pods_have_what_their_containers_use(path: Path) -> None:
    made = manifests(path)
    names = [(each["kind"], each["metadata"]["name"]) for each in made.objects]
    assert len(set(names)) == len(names)
    for workload in made.of("Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]
        assert [each for each in made.pods if selects(workload["spec"]["selector"], each)] == [pod]
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in pod["spec"]["volumes"]}
        volumes |= {each["metadata"]["name"] for each in claims}
        assert {each["name"] for each in of_container(pod)["volumeMounts"]} == volumes


@each_example
def test_services_lead_to_pods(path: Path) -> None:
    made = manifests(path)
    for service in made.of("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (pod,) = [each for each in made.pods if selects(selector, each)]
        ports = {each["name"] for each in of_container(pod)["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    for each in made.of("StatefulSet"):
        made.named("Service", each["spec"]["serviceName"])
    for each in made.of("HTTPRoute"):
        (rule,) = each["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        assert backend["port"] in ports_of(made.named("Service", backend["name"]))


@each_example
def test_budgets_scalers_and_monitors_find_what_they_are_for(path: Path) -> None:
    made = manifests(path)
    for each in made.of("PodDisruptionBudget"):
        assert sum(selects(each["spec"]["selector"], pod) for pod in made.pods) == 1
    for each in made.of("ScaledObject"):
        made.named("Deployment", each["spec"]["scaleTargetRef"]["name"])
    for each in made.of("ServiceMonitor"):
        wanted = each["spec"]["selector"]["matchLabels"].items()
        (service,) = [
            found for found in made.of("Service") if wanted <= found["metadata"]["labels"].items()
        ]
        assert [port["name"] for port in service["spec"]["ports"]] == ["http", "metrics"]


def ports_of(service: dict[str, Any]) -> set[int]:
    return {port["port"] for port in service["spec"]["ports"]}


def test_gpus_are_asked_for_as_they_are_given() -> None:
    def limits(made: Manifests, worker: str) -> dict[str, Any]:
        pod = made.named("Deployment", f"t-ew-worker-{worker}")["spec"]["template"]
        found: dict[str, Any] = of_container(pod)["resources"].get("limits", {})
        return found

    made = example("gpus")
    assert limits(made, "llama") == {"nvidia.com/gpu": 1}
    assert limits(made, "coder") == {"nvidia.com/gpu": 2}
    assert limits(example("demo"), "demo") == {"memory": "8Gi"}


@each_example
def test_pods_have_no_rights_that_they_need_not(path: Path) -> None:
    for pod in manifests(path).pods:
        spec, container = pod["spec"], of_container(pod)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@each_example
def test_ew_takes_its_configuration(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = manifests(path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(made.config))
    monkeypatch.setenv("EW_CONFIG", str(file))
    monkeypatch.setenv("EW_REDIS__URL", "redis://t-ew-valkey:6379/0")
    config = read_config()
    gateway = of_container(made.named("StatefulSet", "t-ew-gateway")["spec"]["template"])
    ports = {each["name"]: each["containerPort"] for each in gateway["ports"]}
    assert ports == {"http": config.gateway.port, "metrics": config.gateway.admin_port}
    for deployment in made.of("Deployment"):
        arguments = of_container(deployment["spec"]["template"])["args"]
        assert arguments[:4] == ["start", "--foreground", "--role", "workers"]
        assert {*arguments[4:]} <= config.models.keys()


def test_several_gateways_share_the_keys_of_the_first() -> None:
    made = example("production")
    gateway = made.named("StatefulSet", "t-ew-gateway")
    mounts = {
        each["name"]: each for each in of_container(gateway["spec"]["template"])["volumeMounts"]
    }
    secret_file = f"{mounts['keys']['mountPath']}/secret"
    assert made.config["keys"] == {"source": "t-ew-gateway-0", "secret_file": secret_file}
    assert "keys" not in example("demo").config


def test_only_who_is_named_reaches_what() -> None:
    made = example("production")
    policies = {each["metadata"]["name"]: each["spec"] for each in made.of("NetworkPolicy")}
    held = {
        name: {
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in made.pods
            if selects(policy["podSelector"], pod)
        }
        for name, policy in policies.items()
    }
    assert held == {
        "t-ew-gateway": {"gateway"},
        "t-ew-valkey": {"valkey"},
        "t-ew-workers": {"worker-llama", "worker-bge"},
    }
    assert policies["t-ew-workers"]["ingress"] == []
    http, metrics = policies["t-ew-gateway"]["ingress"]
    assert (http["ports"], metrics["ports"]) == ([{"port": 8080}], [{"port": 9090}])
    assert "gateway-system" in str(http["from"]) and "monitoring" in str(metrics["from"])


def test_keda_asks_for_what_waits_in_this_namespace() -> None:
    made = example("autoscaling")
    (scaled,) = made.of("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    query = f'ew_num_requests_waiting{{model=~"llama",namespace="{NAMESPACE}"}}'
    assert trigger["metadata"]["query"] == f"sum(max by (model) ({query}))"
    assert trigger["metadata"]["threshold"] == "8"
    (deployment,) = made.of("Deployment")
    assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gateway.replicas=2"], "`gateway.keysSecret` must name a Secret"),
        (["valkey.enabled=false"], "`redis.urlSecret` must name a Secret"),
        (["gatway.replicas=2"], "additional properties 'gatway' not allowed"),
        (["workers.x.image.repository=a"], "is for the model `x`, which `config.models` does not"),
        (
            [
                "config.models.x.engine=mock",
                "workers.x.image.repository=a",
                "workers.x.autoscaling.enabled=true",
                "workers.x.autoscaling.min=0",
            ],
            "`workers.x.autoscaling.min` is at least 1",
        ),
    ],
)
def test_a_mistake_is_named(given: list[str], said: str) -> None:
    done = render(*(f"--set={each}" for each in given))
    assert done.returncode != 0
    assert said in done.stderr
