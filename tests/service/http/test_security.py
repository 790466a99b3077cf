"""Keys open what their scopes say; admin is never open; headers and ids are safe."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from service.http import security
from service.http.routing import ENDPOINTS
from service.settings import Settings
from tests.service.fakes import running

READER, WRITER, ADMIN, HASHED = (f"{name}-0123456789abcdef" for name in "rwah")
DIGEST = hashlib.sha256(HASHED.encode()).hexdigest()
KEYS = f"read:{READER},write:{WRITER},admin:{ADMIN},read+write:sha256${DIGEST}"


def keyed(keys: str = KEYS) -> Settings:
    return Settings.from_env({"CANET_API_KEYS": keys, "CANET_DEADLINE_MS": "5000"})


def concrete(path: str) -> str:
    for name in ("user_id:path", "item_id:path", "code"):
        path = path.replace("{" + name + "}", "not_found")
    return path


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")
async def test_each_route_opens_to_its_scope_alone(endpoint: Any) -> None:
    owners = {"read": {READER, HASHED}, "write": {WRITER, HASHED}, "admin": {ADMIN}}
    async with running(keyed()) as stack:
        for key in (None, "wrong", "", READER, WRITER, ADMIN, HASHED, "sha256$" + DIGEST):
            headers = {} if key is None else {"x-api-key": key}
            response = await stack.client.request(
                endpoint.method, concrete(endpoint.path), headers=headers
            )
            if endpoint.scope is None or key in owners[endpoint.scope]:
                assert response.status_code not in {401, 403}
            elif key in {READER, WRITER, ADMIN, HASHED}:
                assert (response.status_code, response.json()["code"]) == (403, "forbidden")
            else:
                assert response.status_code == 401
                assert response.json()["code"] == "unauthorized"
                assert response.headers["www-authenticate"] == "ApiKey"
            assert key is None or len(key) < 10 or key not in response.text


async def test_without_keys_admin_routes_do_not_exist_and_the_rest_is_open() -> None:
    async with running() as stack:
        assert (await stack.client.post("/recommend", json={"user_id": "u"})).status_code == 200
        admin = [endpoint for endpoint in ENDPOINTS if endpoint.scope == "admin"]
        assert admin
        for endpoint in admin:
            for method in (endpoint.method, "PATCH", "OPTIONS"):
                response = await stack.client.request(method, endpoint.path)
                assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_admin_reloads_and_rolls_back() -> None:
    async with running(keyed()) as stack:
        stack.client.headers["x-api-key"] = ADMIN

        async def post(action: str, **body: Any) -> tuple[int, Any]:
            response = await stack.client.post(f"/v1/admin/model/{action}", json=body)
            return response.status_code, response.json()

        status, told = await post("rollback")
        assert (status, told["code"]) == (422, "reload_refused")
        status, told = await post("reload", version="bad")
        assert (status, told["code"]) == (422, "reload_refused")
        assert "checksum" in told["detail"]
        status, told = await post("reload", version="busy")
        assert (status, told["code"]) == (409, "reload_busy")
        status, told = await post("reload", version="a\u0000")
        assert told["errors"][0]["pointer"] == "/version"
        status, told = await post("reload", version="v7")
        assert (status, told["version"]) == (200, "v7")
        empty = await stack.client.post("/v1/admin/model/reload")
        assert empty.json()["version"] == "v2"
        assert (await post("rollback"))[1]["version"] == "v7"
        info = {"version": "v7", "digest": "digest-v7", "variant": "stable"}
        assert await stack.metric("canet_model_info", **info) == 1


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
async def test_request_ids_are_echoed_when_sane(sent: str, echoed: bool) -> None:
    async with running() as stack:
        for path in ("/healthz", "/nope"):
            response = await stack.client.get(path, headers={"x-request-id": sent})
            found = response.headers["x-request-id"]
            assert (found == sent) is echoed
            assert found


@pytest.mark.parametrize("presented", [READER, HASHED, "wrong", ""])
async def test_a_key_is_compared_with_every_known_one_in_constant_time(
    presented: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hash, and as often for a right key as for a wrong one."""
    compared: list[tuple[bytes, bytes]] = []

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(security, "hmac", SimpleNamespace(compare_digest=spy))
    known = keyed().api_keys
    security.key_of(presented, known)
    wanted = hashlib.sha256(presented.encode()).digest()
    assert compared == [(wanted, key.digest) for key in known]


def test_keys_are_kept_as_hashes_alone() -> None:
    settings = keyed()
    kept = repr(settings) + str(settings.model_dump()) + str(pickle.dumps(settings))
    for key in (READER, WRITER, ADMIN, HASHED):
        assert key not in kept
    assert settings.api_keys[0].digest == hashlib.sha256(READER.encode()).digest()


async def test_keys_are_rotated_without_a_gap() -> None:
    """Old alone, both, new alone: a client that changes over in between is never refused."""
    old, new = f"read:{READER}", f"read:{HASHED}"
    for keys, accepted in (
        (old, {READER}),
        (f"{old},{new}", {READER, HASHED}),
        (new, {HASHED}),
    ):
        async with running(keyed(keys)) as stack:
            for key in (READER, HASHED):
                answer = await stack.client.get("/v1/model", headers={"x-api-key": key})
                assert (answer.status_code == 200) is (key in accepted)


async def test_every_answer_carries_the_safe_headers() -> None:
    asked = [
        *(
            ("GET", path)
            for path in ("/healthz", "/metrics", "/nope", "/v1/model", "/openapi.json")
        ),
        *(("HEAD", "/healthz"), ("OPTIONS", "/recommend"), ("PATCH", "/recommend")),
        ("POST", "/recommend"),
    ]
    async with running() as stack:
        for method, path in asked:
            headers = (await stack.client.request(method, path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-model-version"] == "v1"
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers


async def test_cors_is_closed_unless_opened_for_an_origin() -> None:
    origin = {"origin": "https://shop.example"}
    asks = {**origin, "access-control-request-method": "POST"}
    async with running() as stack:
        for answer in (
            await stack.client.options("/recommend", headers=asks),
            await stack.client.get("/healthz", headers=origin),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]
    async with running(cors_origins=("https://shop.example",)) as stack:
        headers = (await stack.client.get("/healthz", headers=origin)).headers
        assert headers["access-control-allow-origin"] == "https://shop.example"
        headers = (await stack.client.get("/healthz", headers={"origin": "https://x.y"})).headers
        assert "access-control-allow-origin" not in headers


async def test_the_openapi_document_is_whole() -> None:
    async with running() as stack:
        document = (await stack.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert {path.replace(":path}", "}") for path in (e.path for e in ENDPOINTS)} == set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    operations = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    linked: set[str] = set()

    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                kind, name = node["$ref"].removeprefix("#/components/").split("/")
                assert name in document["components"][kind]
            for link in node.get("links", {}).values():
                linked.add(link["operationId"])
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(document)
    assert linked <= operations
    assert {"events", "recommend", "read_history", "delete_history", "similar"} <= linked
    assert schemas["RecommendRequest"]["examples"]
    assert schemas["RecommendAnswer"]["examples"]
    assert "HTTPValidationError" not in str(document)
