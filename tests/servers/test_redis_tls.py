"""The service over TLS, as a user of the server's access list with no more rights than it needs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.exceptions import NoPermissionError

from service.app import create_app
from service.metrics.labels import REDIS_OPS
from service.settings import Settings
from tests.servers.processes import free_port, required, wait_until
from tests.service.fakes import FakeEngine, FakeManager

pytestmark = pytest.mark.servers

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "a-password-of-the-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A server that speaks TLS alone and knows one user."""

    port: int
    directory: Path

    def url(self, *, ca: str = "ca", password: str = PASSWORD) -> str:
        authority = self.directory / f"{ca}.crt"
        return f"rediss://canet:{password}@localhost:{self.port}/0?ssl_ca_certs={authority}"


def openssl(*arguments: str, cwd: Path) -> None:
    binary = required("openssl", "openssl")
    subprocess.run([binary, *arguments], cwd=cwd, check=True, capture_output=True)


def make_certificates(directory: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    for ca in ("ca", "other"):
        files = ("-keyout", f"{ca}.key", "-out", f"{ca}.crt", "-subj", f"/CN={ca} of the test")
        openssl("req", "-x509", *key, *files, cwd=directory)
    files = ("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    openssl("req", "-new", *key[:-2], *files, cwd=directory)
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1")
    signed = ("-in", "server.csr", "-out", "server.crt", "-extfile", "names")
    openssl("x509", "-req", *signer, *signed, cwd=directory)


def documented_rule() -> str:
    """Return the rights that docs/operations.md gives the service's user."""
    found = re.search(r"^user canet (.*)$", OPERATIONS.read_text(), flags=re.MULTILINE)
    assert found is not None
    return found[1].replace(">PASSWORD", f">{PASSWORD}")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    binary = required("redis-server", "redis-server")
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    (directory / "users.acl").write_text(f"user default off\nuser canet {documented_rule()}\n")
    port = free_port()
    options = {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(directory / "server.crt"),
        "tls-key-file": str(directory / "server.key"),
        "tls-ca-cert-file": str(directory / "ca.crt"),
        "tls-auth-clients": "no",
        "aclfile": str(directory / "users.acl"),
        "bind": "127.0.0.1",
        "save": "",
        "dir": str(directory),
    }
    command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Secured(port=port, directory=directory)

    def up() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        try:
            with redis.Redis.from_url(found.url()) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    try:
        wait_until(up, 60, "the server does not answer over TLS")
        yield found
    finally:
        process.kill()
        process.wait()


def settings_for(url: str) -> Settings:
    return Settings.from_env(
        {
            "CANET_REDIS_URL": url,
            "CANET_REDIS_OP_TIMEOUT_MS": "5000",
            "CANET_REDIS_WRITE_TIMEOUT_MS": "5000",
            "CANET_REDIS_CONNECT_TIMEOUT_MS": "5000",
            "CANET_DEADLINE_MS": "20000",
            "CANET_RATE_LIMIT": "50/d",
            "CANET_RATE_LIMIT_SHARED": "true",
        }
    )


async def test_everything_works_over_tls_with_the_documented_rights(secured: Secured) -> None:
    registry = CollectorRegistry()
    app = create_app(
        settings_for(secured.url()), models=FakeManager(FakeEngine()), registry=registry
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            event = {"user_id": "u", "item_id": "i5"}
            told = (await client.post("/v1/events", json={"events": [event]})).json()
            assert told["accepted"] == 1
            told = (await client.post("/recommend", json={"user_id": "u", "k": 1})).json()
            assert (told["degraded"], told["items"][0]["item_id"]) == ([], "i6")
            await app.state.services.impressions.stop()
            named = {"type": "click", "recommendation_id": told["recommendation_id"]}
            click = {"user_id": "u", "item_id": "i6", **named}
            assert (await client.post("/v1/events", json={"events": [click]})).status_code == 200
            await client.delete("/v1/users/u/history")
            await client.post("/v1/events", json={"events": [event]})
            body = {"items": [{"item_id": "i8"}]}
            assert (await client.put("/v1/users/v/history", json=body)).status_code == 200
            merged = await client.post("/v1/users/u/merge", json={"source_user_id": "v"})
            assert merged.json()["length"] == 2
            assert (await client.get("/v1/users/u/history")).json()["length"] == 2
            last = await client.delete("/v1/users/u/history")
            assert last.status_code == 204
            assert last.headers["ratelimit-remaining"] == "41"
            assert (await client.get("/readyz")).json()["checks"]["redis"] == "ok"
    labels = {"type": "click", "variant": "stable"}
    assert registry.get_sample_value("canet_attributed_events_total", labels) == 1
    for op in REDIS_OPS:
        for kind in ("auth", "response"):
            labels = {"op": op, "kind": kind}
            assert registry.get_sample_value("canet_redis_errors_total", labels) == 0, labels


@pytest.mark.parametrize("wrong", [{"ca": "other"}, {"password": "not-the-password"}])
async def test_a_stranger_is_not_spoken_to(secured: Secured, wrong: dict[str, str]) -> None:
    app = create_app(
        settings_for(secured.url(**wrong)),
        models=FakeManager(FakeEngine()),
        registry=CollectorRegistry(),
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            told = (await client.post("/recommend", json={"user_id": "u", "k": 1})).json()
            assert told["degraded"] == ["redis_down"]
            event = {"user_id": "u", "item_id": "i5"}
            refused = await client.post("/v1/events", json={"events": [event]})
            assert refused.status_code == 503
            assert PASSWORD not in refused.text


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("GET", "other:key"),
        ("SET", "other:key", "1"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ],
)
def test_the_documented_rights_are_no_more_than_needed(
    secured: Secured, command: tuple[str, ...]
) -> None:
    with redis.Redis.from_url(secured.url()) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)
