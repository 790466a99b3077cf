"""A Docker engine of its own with stand-ins for the official images and the project's own built.

For `e2e.py` beside it. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("docker.io", "mmdebstrap", "iptables")
INSIDE = (
    *("python3", "python3-venv", "python3-pip", "ca-certificates", "libgomp1"),
    *("redis-server", "prometheus", "haproxy", "busybox-static"),
)
# What the official images bring and Debian's packages call or place otherwise.
STAND_INS = {
    "python:3.12-slim-bookworm": """
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
COPY wheels /wheels
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_FIND_LINKS=/wheels PIP_DEFAULT_TIMEOUT=180
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
""",
    "valkey/valkey:8.1-alpine": """
RUN ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli \
    && install -d -o 999 -g 1000 /data
VOLUME /data
WORKDIR /data
""",
    "prom/prometheus:v3.5.0": """
RUN ln -s busybox /bin/wget && install -d -o 65534 -g 65534 /prometheus
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
""",
    "haproxy:3.0-alpine": """
RUN ln -s busybox /bin/wget && install -d /usr/local/etc/haproxy
""",
}


def say(text: str) -> None:
    sys.stdout.write(f"e2e: {text}\n")
    sys.stdout.flush()


class Unverified(Exception):
    """This machine cannot show it; the message says why."""


class Engine:
    """A Docker engine with files of its own under `place`, until `stop`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket = place / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; raises Unverified when it does not come up."""
        options = {
            "--data-root": self.place / "data",
            "--exec-root": self.place / "exec",
            "--pidfile": self.place / "pid",
            "-H": f"unix://{self.socket}",
        }
        arguments = [str(word) for pair in options.items() for word in pair]
        with (self.place / "log").open("wb") as log:
            self._process = subprocess.Popen(["dockerd", *arguments], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while subprocess.run(docker("info"), env=self.environ, capture_output=True).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                tail = (self.place / "log").read_text(errors="replace").splitlines()[-3:]
                raise Unverified("the engine does not start: " + " | ".join(tail))
            time.sleep(0.5)

    @property
    def environ(self) -> dict[str, str]:
        # The classic builder: it is in the engine, while BuildKit's front end is a plugin.
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def stop(self) -> None:
        """Stop it and remove what it kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
        shutil.rmtree(self.place, ignore_errors=True)


def docker(*arguments: str) -> list[str]:
    return ["/usr/bin/docker", *arguments]


def prepare(place: Path, seconds: float) -> Engine:
    """Return a running engine that has every image; raises Unverified, within `seconds`."""
    end = time.monotonic() + seconds

    def run(what: str, command: list[str], **options: Any) -> None:
        began, log = time.monotonic(), place / "command.log"
        try:
            with log.open("wb") as stream:
                subprocess.run(
                    command,
                    check=True,
                    stdout=stream,
                    stderr=stream,
                    timeout=max(1.0, end - began),
                    **options,
                )
        except FileNotFoundError as error:
            raise Unverified(f"{what}: {error.filename} is missing") from None
        except subprocess.TimeoutExpired:
            raise Unverified(f"{what}: not done within {seconds:.0f} s from the start") from None
        except subprocess.CalledProcessError:
            tail = log.read_text(errors="replace").splitlines()[-5:]
            raise Unverified(f"{what}: " + " | ".join(tail)) from None
        say(f"{what}: {time.monotonic() - began:.0f} s")

    if os.geteuid() != 0:
        raise Unverified("starting an engine needs root")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    run("engine from Debian", install, env=quiet)
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if not sources.exists():
        raise Unverified(f"{sources} is missing: this is no Debian 12")
    engine = Engine(place / "engine")
    engine.place.mkdir()
    try:
        engine.start()
        tree = str(place / "base.tar")
        make = [
            *("mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io"),
            *(f"--include={','.join(INSIDE)}", "bookworm", tree, "-"),
        ]
        with sources.open("rb") as stream:
            run("base system", make, stdin=stream)
        run("base image", docker("import", tree, "stand-in:base"), env=engine.environ)
        Path(tree).unlink()
        context = place / "context"
        (context / "wheels").mkdir(parents=True)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", context / "ca.crt")
        for link in os.environ.get("PIP_FIND_LINKS", "").split():
            for wheel in Path(link).glob("torch-*.whl"):
                shutil.copy(wheel, context / "wheels")
        for tag, lines in STAND_INS.items():
            (context / "Dockerfile").write_text(f"FROM stand-in:base{lines}")
            run(tag, docker("build", "-t", tag, str(context)), env=engine.environ)
        for target in ("trainer", "api"):
            build = ["docker-compose", "--project-directory", str(ROOT), "build", target]
            run(f"docker compose build {target}", build, env=engine.environ, cwd=ROOT)
    except BaseException:
        engine.stop()
        raise
    return engine
