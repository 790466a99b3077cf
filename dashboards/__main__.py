"""`python -m dashboards` writes the dashboards that Grafana provisions."""

from __future__ import annotations

from pathlib import Path

from dashboards.files import rendered

_FOLDER = Path(__file__).parent.parent / "docker" / "grafana" / "dashboards"


def main() -> None:
    """Write every dashboard below docker/grafana/dashboards."""
    for name, text in rendered().items():
        (_FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
