"""Whether there is tracing, by the settings."""

from __future__ import annotations

from service.settings import Settings, SettingsError
from service.tracing.contract import Tracer


def tracer_of(settings: Settings, *, version: str) -> Tracer | None:
    """Return what makes this service's spans, None without a collector.

    Raises SettingsError where a collector is set and OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        # Imported here: without tracing nobody pays for it, nor needs it installed.
        from service.tracing.otlp import open_tracer
    except ImportError as error:
        problem = (
            f"CANET_OTLP_ENDPOINT needs a package that is missing ({error.name}); install it "
            "with: pip install 'canet-serve[otel]'"
        )
        raise SettingsError([problem]) from error
    return open_tracer(
        settings.otlp_endpoint, sample_ratio=settings.otlp_sample_ratio, version=version
    )
