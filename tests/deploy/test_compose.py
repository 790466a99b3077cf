"""docker-compose.yml, .env.example and the Dockerfile agree with each other and the service."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from service.settings import Settings
from tests.deploy.files import ROOT, compose, env_file, read_yaml, substitute, variables

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
ENV_EXAMPLE = env_file(ROOT / ".env.example")
each_service = pytest.mark.parametrize("name", SERVICES)

# Settings that the image or the stack fixes and nobody sets from outside.
FIXED = {
    "CANET_HOST",
    "CANET_PORT",
    "CANET_ADMIN_PORT",
    "CANET_MODEL_ROOT",
    "CANET_REVISION",
    "CANET_EMBEDDED_DIR",
}
ONE_SHOT = {"bootstrap"}


def api_settings(environ: dict[str, str]) -> Settings:
    values = {
        name: substitute(value, environ) for name, value in SERVICES["api"]["environment"].items()
    }
    return Settings.from_env(values)


def seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)(s|m)", text)
    assert match is not None, text
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


@each_service
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service.get("user", "").split(":")[0] != "0"
    for published in service.get("ports", ()):
        assert published.startswith("${BIND_ADDRESS:-127.0.0.1}:"), "closed to the network"


@each_service
def test_every_service_has_a_pinned_image_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    image = substitute(service["image"], {})
    assert ":" in image
    assert not image.endswith(":latest")
    assert "build" in service or re.search(r":v?\d+\.\d+", image), f"{image} is not pinned"
    assert name in ONE_SHOT or service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_named_volumes_and_networks_are_declared_and_used() -> None:
    mounted = {
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", ())
        if not mount.startswith((".", "$"))
    }
    assert mounted == set(compose()["volumes"])
    joined = {network for service in SERVICES.values() for network in service.get("networks", ())}
    assert joined == set(compose()["networks"])


def test_the_service_cannot_write_models_and_the_trainer_can() -> None:
    assert "models:/models:ro" in SERVICES["api"]["volumes"]
    assert "models:/models" in SERVICES["trainer"]["volumes"]
    assert "models:/models" in SERVICES["bootstrap"]["volumes"]


def test_the_container_is_stopped_later_than_the_service_needs() -> None:
    settings = api_settings({})
    grace = seconds(substitute(SERVICES["api"]["stop_grace_period"], {}))
    assert grace > settings.drain_seconds + settings.grace_seconds


def test_every_setting_can_be_set_from_env_and_starts_the_service() -> None:
    known = {f"CANET_{name.upper()}" for name in Settings.model_fields}
    given = {name for name in SERVICES["api"]["environment"] if name.startswith("CANET_")}
    assert given | FIXED == known
    assert str(api_settings({}).model_root) == "/models"


def test_env_example_documents_every_variable_and_shows_the_defaults() -> None:
    defaults = variables(COMPOSE)
    assert set(ENV_EXAMPLE) == set(defaults)
    for name, shown in ENV_EXAMPLE.items():
        if not name.startswith("CANET_"):
            assert shown == defaults[name], name
    written, unset = (
        api_settings(environ).model_dump(exclude={"log_salt"}) for environ in (ENV_EXAMPLE, {})
    )
    assert written == unset


def test_files_that_are_mounted_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            if mount.startswith("./"):
                assert (ROOT / mount.split(":")[0]).exists(), mount
                assert mount.endswith(":ro"), mount


def test_prometheus_scrapes_the_name_and_port_of_the_service() -> None:
    config = read_yaml(ROOT / "docker/prometheus/prometheus.yml")
    (target,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert target["names"] == ["api"]
    assert str(target["port"]) == SERVICES["api"]["environment"]["CANET_PORT"]
    assert set(SERVICES["api"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    targets = [mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]]
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert "/etc/prometheus/prometheus.yml" in targets
    assert config["rule_files"] == ["rules/*.yml"]
    assert "/etc/prometheus/rules" in targets


def test_the_balancer_alone_is_published_and_finds_every_replica() -> None:
    text = (ROOT / "docker/balancer/haproxy.cfg").read_text()
    port = SERVICES["api"]["environment"]["CANET_PORT"]
    balancer = SERVICES["balancer"]
    assert re.search(rf"server-template api \d+ api:{port} resolvers docker", text)
    assert "ports" not in SERVICES["api"], "a fixed port cannot be had by several replicas"
    assert balancer["ports"] == ["${BIND_ADDRESS:-127.0.0.1}:${API_PORT:-8000}:8000"]
    assert "bind :8000" in text
    assert balancer["healthcheck"]["test"][-1] == "http://127.0.0.1:8405/healthz"
    (job,) = [
        job
        for job in read_yaml(ROOT / "docker/prometheus/prometheus.yml")["scrape_configs"]
        if job["job_name"] == "balancer"
    ]
    assert job["static_configs"] == [{"targets": ["balancer:8405"]}]
    assert "set-header X-Forwarded-For %[src]" in text, "callers could forge their address"


def test_plain_up_starts_everything() -> None:
    assert not [name for name, service in SERVICES.items() if "profiles" in service]


def test_grafana_finds_its_dashboards_and_its_data_source() -> None:
    grafana = SERVICES["grafana"]
    targets = [mount.split(":")[1] for mount in grafana["volumes"]]
    provisioning = ROOT / "docker/grafana/provisioning"
    (provider,) = read_yaml(provisioning / "dashboards/canet.yml")["providers"]
    assert provider["options"]["path"] in targets
    assert "/etc/grafana/provisioning" in targets
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "docker/grafana/dashboards" / home.rsplit("/", 1)[1]).exists()
    (source,) = read_yaml(provisioning / "datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scrape = read_yaml(ROOT / "docker/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


def test_the_store_says_how_durable_it_is_and_never_forgets_silently() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert substitute(options["--appendfsync"], {}) in {"everysec", "always"}
    assert options["--maxmemory-policy"] == "noeviction"
    assert compose()["networks"]["store"]["internal"] is True


def test_the_image_is_built_from_what_the_project_ships() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    copied = set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.MULTILINE))
    assert copied == packages
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0:1] == "!"
    }
    assert allowed == packages | {"pyproject.toml", "README.md", "docker/*.sh"}


def test_the_image_runs_as_nobody_with_the_torch_of_dev_py() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    (version,) = re.findall(r"^ARG TORCH_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert f'TORCH = "torch=={version}"' in (ROOT / "dev.py").read_text()
    (index,) = re.findall(r"^ARG TORCH_INDEX=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert f'CPU_INDEX = "{index}"' in (ROOT / "dev.py").read_text()


def test_every_build_target_of_compose_is_a_stage_and_starts_in_exec_form() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    wanted = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert wanted <= stages
    for line in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.MULTILINE):
        assert line.startswith("["), "signals must reach the process itself"


def test_scripts_that_become_commands_are_executable() -> None:
    for script in re.findall(r"^COPY (docker/\S+\.sh) ", DOCKERFILE, re.MULTILINE):
        assert (ROOT / script).stat().st_mode & 0o111 == 0o111, script
