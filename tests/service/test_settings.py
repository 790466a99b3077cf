"""Settings are read once, checked all at once, and all documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, SettingsError

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_nothing_set_is_a_working_configuration() -> None:
    settings = Settings.from_env({"PATH": "/bin", "CANET_PORT": ""})
    assert settings.port == 8000
    assert settings.api_keys == ()


def test_values_are_read() -> None:
    settings = Settings.from_env(
        {
            "CANET_PORT": "80",
            "CANET_HISTORY_TTL": "2h",
            "CANET_SUBMODELS": "d1-w16-e16, d2-w32-e32,",
            "CANET_PRICE": "0",
            "CANET_READY_REQUIRES_REDIS": "true",
            "CANET_LOG_LEVEL": "debug",
            "CANET_CORS_ORIGINS": "https://a.example",
            "CANET_REDIS_URL": "redis://:pw@redis:6379/0",
        }
    )
    assert settings.history_ttl == 7200
    assert settings.submodels == ("d1-w16-e16", "d2-w32-e32")
    assert settings.price == 0
    assert settings.ready_requires_redis
    assert settings.log_level == "DEBUG"
    assert "pw" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CANET_PORT", "http"),
        ("CANET_PORT", "70000"),
        ("CANET_MAX_BATCH", "0"),
        ("CANET_DEADLINE_MS", "nan"),
        ("CANET_PRICE", "inf"),
        ("CANET_HISTORY_TTL", "soon"),
        ("CANET_HISTORY_TTL", "0"),
        ("CANET_SUBMODELS", "small"),
        ("CANET_LOG_FORMAT", "xml"),
        ("CANET_READY_REQUIRES_REDIS", "perhaps"),
        ("CANET_REDIS_URL", "http://secret-value"),
        ("CANET_API_KEYS", "read:secret-value"),
        ("CANET_API_KEYS", "root:secret-value-0123456789"),
        ("CANET_API_KEYS", "secret-value"),
        ("CANET_PROT", "8000"),
        ("CANET_PORT_FILE", "/etc/hostname"),
        ("CANET_LOG_SALT_FILE", "/nowhere/at/all"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value})
    assert variable.removesuffix("_FILE") in str(caught.value)
    assert "secret-value" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"CANET_PORT": "x", "CANET_NOPE": "1", "CANET_MAX_BATCH": "-1"})
    assert len(caught.value.problems) == 3


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "redis_url"
    file.write_text("redis://:pw@host/0\n", encoding="utf-8")
    settings = Settings.from_env({"CANET_REDIS_URL_FILE": str(file)})
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:pw@host/0"
    with pytest.raises(SettingsError, match="both set"):
        Settings.from_env({"CANET_REDIS_URL_FILE": str(file), "CANET_REDIS_URL": "redis://x"})


def test_every_setting_is_documented_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(CANET_\w+)` \| ([^|]*) \| ([^|]*) \|$", text, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == [
        PREFIX + name.upper() for name in Settings.model_fields
    ]
    for name, default, meaning in rows:
        field = Settings.model_fields[name.removeprefix(PREFIX).lower()]
        assert meaning.strip() == field.description
        if field.default is None or field.default == () or field.default_factory is not None:
            assert default.strip() == "", name
        else:
            shown = str(field.default)
            assert default.strip() == f"`{shown.lower() if shown in {'True', 'False'} else shown}`"
