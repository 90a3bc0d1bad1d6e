"""Dockerfile, compose and Kubernetes against the server's own defaults: ports, probes, limits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config import ServerConfig, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GRPC_PORT, HTTP_PORT = (
    ServerConfig.model_fields[name].default for name in ("grpc_port", "http_port")
)
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())


@pytest.fixture
def pod() -> Any:
    return manifest("deployment")["spec"]["template"]


@pytest.fixture
def container(pod: Any) -> Any:
    (container,) = pod["spec"]["containers"]
    return container


def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServerConfig:
    """What a server makes of these variables beside those of the image."""
    image = dict(re.findall(r"(RNNSERVE_\w+)=(\S+)", DOCKERFILE))
    for name, value in (image | environment).items():
        monkeypatch.setenv(name, value)
    return load()


def test_the_image_listens_everywhere_and_serves_the_mounted_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings({}, monkeypatch)
    assert (config.host, config.repository) == ("0.0.0.0", Path("/models"))


def test_the_image_exposes_the_servers_ports_and_runs_as_nobody() -> None:
    assert f"EXPOSE {GRPC_PORT} {HTTP_PORT}\n" in DOCKERFILE
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["rnnserve", "serve"]' in DOCKERFILE
    assert 'CMD ["python", "-m", "server.healthcheck"]' in DOCKERFILE


def test_what_the_build_copies_reaches_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert sources == {line.removeprefix("!") for line in let_in if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_cuda_of_the_base_is_that_of_onnx_runtime() -> None:
    base = re.search(r"FROM nvidia/cuda:(\d+)\.", DOCKERFILE)
    assert base is not None
    wanted = subprocess.run(
        [sys.executable, "-c", "import onnxruntime as o; print(o.cuda_version)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert wanted.stdout.split(".")[0] == base[1]


def test_kubernetes_probes_ask_the_grpc_port(container: Any) -> None:
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "grpc": GRPC_PORT,
        "http": HTTP_PORT,
    }
    assert [container[probe]["grpc"]["port"] for probe in PROBES] == [GRPC_PORT] * 3


def test_kubernetes_service_leads_to_the_ports(pod: Any) -> None:
    service = manifest("service")["spec"]
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == {
        "grpc": GRPC_PORT,
        "http": HTTP_PORT,
    }
    labels = pod["metadata"]["labels"]
    budget = manifest("poddisruptionbudget")["spec"]
    deployment = manifest("deployment")["spec"]
    for selector in (
        service["selector"],
        *(s["selector"]["matchLabels"] for s in (budget, deployment)),
    ):
        assert selector.items() <= labels.items()


def test_prometheus_finds_the_metrics(pod: Any) -> None:
    assert pod["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(HTTP_PORT),
        "prometheus.io/path": "/metrics",
    }


def test_kubernetes_waits_longer_than_the_server_drains(
    pod: Any, container: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings({e["name"]: e["value"] for e in container["env"]}, monkeypatch)
    pause_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # sessions may take the limit, and the requests that run then once more
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause_s + 2 * config.drain_limit_s


def test_compose_waits_longer_than_the_server_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["rnnserve"]
    config = settings(service["environment"], monkeypatch)
    assert float(service["stop_grace_period"].removesuffix("s")) > 2 * config.drain_limit_s
    published = [port.rpartition(":")[2] for port in service["ports"]]
    assert published == [str(GRPC_PORT), str(HTTP_PORT)]


def test_compose_for_cuda_changes_the_same_service(monkeypatch: pytest.MonkeyPatch) -> None:
    service = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())["services"]["rnnserve"]
    assert settings(service["environment"], monkeypatch).provider == "cuda"


def test_service_links_would_be_read_as_settings(pod: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the deployment turns them off: Kubernetes' variables for a Service `rnnserve-grpc`."""
    assert pod["spec"]["enableServiceLinks"] is False
    with pytest.raises(Exception, match="grpc_port"):
        settings({"RNNSERVE_GRPC_PORT": "tcp://10.0.0.1:8001"}, monkeypatch)


def test_kubernetes_runs_as_the_images_user_and_writes_nowhere(pod: Any, container: Any) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    context = pod["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_kustomization_names_the_files_that_are_there() -> None:
    files = set(os.listdir(DEPLOY / "kubernetes")) - {"kustomization.yaml"}
    assert set(manifest("kustomization")["resources"]) == files
