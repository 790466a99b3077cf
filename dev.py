"""The two commands of a fresh checkout. Needs Python 3.11 to 3.13 and nothing else.

    python3 dev.py demo [--data FILE] [--items FILE] [--synthetic] [--exit] [--port N]
    python3 dev.py test [arguments of pytest]
    python3 dev.py check

Makes `.venv` beside this file on the first start and reuses it afterwards. Holds no product
logic: `demo` is `canet demo`, `test` is pytest without what needs installed servers or minutes,
`check` is ruff and mypy. Exit code: that of the command; 3 when `.venv` could not be made.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

# This file parses on any Python 3, so that an old one reads this sentence, not a traceback.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    other = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    hint = f"run: {other[0]} dev.py {' '.join(sys.argv[1:])}" if other else "install one of them"
    sys.exit(f"dev.py: this is Python {found}; Python 3.11, 3.12 or 3.13 is needed. {hint}")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NEEDED_BYTES = 2_500_000_000
SETUP_FAILED = 3
USAGE = 2

# The environment is whole when READY holds its digest; BUILDING marks one that pip is at work in.
READY = ".canet-ready"
BUILDING = ".canet-building"
LOCK = ".canet-lock"
LOG = ".canet-pip.log"

CAUSES = (
    (
        r"No space left on device|Errno 28",
        "the disk is full. Free some space (2.5 GB are needed, also where TMPDIR points)",
    ),
    (
        r"name resolution|NewConnectionError|ConnectTimeout|Network is unreachable|"
        r"Connection refused|ProxyError|No matching distribution",
        "the package registry could not be reached, or lacks a package for this machine. "
        "Check the network, a proxy (HTTPS_PROXY) or your pip configuration",
    ),
    (r"Permission denied|Errno 13", "a file could not be written; check who owns .venv"),
    (r"SSLError|CERTIFICATE_VERIFY_FAILED", "a certificate was refused; check PIP_CERT"),
)


class SetupError(Exception):
    """The environment could not be made; the message is for the person at the keyboard."""


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(__doc__)
        return 0 if arguments else USAGE
    command, rest = arguments[0], arguments[1:]
    if command not in {"demo", "test", "check"}:
        print(f"dev.py: unknown command {command!r}; known are demo, test and check")
        return USAGE
    try:
        make_environment()
    except SetupError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return SETUP_FAILED
    except KeyboardInterrupt:
        print("\ndev.py: stopped; the next start begins where it makes sense", file=sys.stderr)
        return 130
    environ = clean_environ()
    tools = VENV / "bin"
    if command == "demo":
        replace_process([str(tools / "canet"), "demo", *rest], environ)
    os.chdir(ROOT)
    if command == "test":
        replace_process([str(tools / "pytest"), "-m", "not servers and not long", *rest], environ)
    return check(tools, environ)


def check(tools: Path, environ: dict[str, str]) -> int:
    """Run every check, also after one failed; returns 1 if any did."""
    failed = []
    for name, *arguments in (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("mypy", "dev.py"),
    ):
        print("$", name, *arguments, flush=True)
        if subprocess.run([str(tools / name), *arguments], env=environ, check=False).returncode:
            failed.append(" ".join([name, *arguments]))
    print("failed: " + ", ".join(failed) if failed else "all checks passed")
    return 1 if failed else 0


def replace_process(command: list[str], environ: dict[str, str]) -> None:
    """Become `command`: signals, terminal and exit code are then its own."""
    sys.stdout.flush()
    try:
        os.execve(command[0], command, environ)  # noqa: S606  # that is the point
    except OSError as error:
        sys.exit(f"dev.py: {command[0]} cannot be started ({error}). Remove .venv and try again")


def clean_environ() -> dict[str, str]:
    """The caller's environment without what would leak another Python into ours."""
    drop = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_TARGET"}
    return {name: value for name, value in os.environ.items() if name not in drop}


def digest() -> str:
    """What `.venv` was made from: change any of it and the environment is brought up to date."""
    parts = ((ROOT / "pyproject.toml").read_text(), TORCH, sys.version, str(ROOT))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make_environment() -> None:
    """Make, repair or update `.venv`; returns at once when it is whole. Raises SetupError."""
    if is_ready():
        return
    if os.name != "posix":
        raise SetupError("Linux or macOS is needed; on Windows use WSL 2")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(
            "this Python has no venv module. On Debian or Ubuntu: "
            f"sudo apt install python3.{sys.version_info.minor}-venv"
        )
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES and not (VENV / READY).exists():
        raise SetupError(
            f"{free / 1e9:.1f} GB are free in {ROOT}; {NEEDED_BYTES / 1e9:.1f} GB are needed"
        )
    try:
        VENV.mkdir(exist_ok=True)
        with (VENV / LOCK).open("w") as lock:
            wait_for(lock)
            if not is_ready():
                build()
    except OSError as error:
        raise SetupError(f".venv cannot be written: {error}") from error


def is_ready() -> bool:
    """Whether `.venv` is whole and made from what stands here now."""
    try:
        state = json.loads((VENV / READY).read_text())
    except (OSError, ValueError):
        return False
    return (
        not (VENV / BUILDING).exists()
        and state == {"digest": digest()}
        and (VENV / "bin" / "python").exists()
    )


def wait_for(lock: TextIO) -> None:
    """Take the lock; says so when another dev.py holds it."""
    import fcntl  # not on Windows, which is told so first

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("another dev.py is making the environment; waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def build() -> None:
    """Make or update `.venv`, removing first what an interrupted start left."""
    started = time.monotonic()
    python = VENV / "bin" / "python"
    interrupted, ours = (VENV / BUILDING).exists(), (VENV / READY).exists()
    works = not python.exists() or runs_here(python)
    if not (interrupted or ours or works):
        raise SetupError(f"{VENV} is not an environment of this Python and place; remove it")
    if interrupted or not works:
        reason = "was left half-made" if interrupted else "belongs to another place or Python"
        print(f"The environment .venv {reason}; making it anew.", flush=True)
        empty_environment()
    elif ours:
        print("pyproject.toml has changed; bringing .venv up to date.", flush=True)
    else:
        print("First start: making the environment .venv (1 GB, a few minutes).", flush=True)
    (VENV / BUILDING).touch()
    (VENV / READY).unlink(missing_ok=True)
    if not python.exists():
        step("making .venv", [sys.executable, "-m", "venv", str(VENV)])
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if pip_version() >= (24, 1):
        pip += ["--progress-bar", "raw"]
    # Linux would otherwise get gigabytes of CUDA. Without dependencies, so that an index that
    # cannot be reached costs one look-up; the usual index then supplies the package.
    index = ["--extra-index-url", CPU_INDEX] if sys.platform == "linux" else []
    once = ["--retries", "0", "--timeout", "15", "--no-deps"]
    step("installing PyTorch for CPU", [*pip, *once, *index, TORCH])
    warn_of_cuda()
    step("installing the project", [*pip, "-e", f"{ROOT}[dev]"])
    (VENV / READY).write_text(json.dumps({"digest": digest()}))
    (VENV / BUILDING).unlink()
    print(f"The environment is ready ({time.monotonic() - started:.0f} s).", flush=True)


def runs_here(python: Path) -> bool:
    """Whether `python` is an environment of this place and this version of Python."""
    code = "import sys; print(sys.prefix, sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    pip = VENV / "bin" / "pip"
    placed = pip.exists() and str(VENV) in pip.read_text(errors="replace")[:500]
    return placed and answer.stdout.strip() == f"{VENV} {sys.version_info[:2]}"


def empty_environment() -> None:
    """Remove everything but the marks, which go last: a kill here is noticed next time."""
    (VENV / BUILDING).touch()
    for child in VENV.iterdir():
        if child.name in {BUILDING, LOCK}:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def installed(package: str) -> str:
    """The version of `package` in `.venv`, read from its folder's name; empty when absent."""
    for path in VENV.glob(f"lib/python*/site-packages/{package}-*.dist-info"):
        return path.name[len(package) + 1 : -len(".dist-info")]
    return ""


def pip_version() -> tuple[int, ...]:
    """Major and minor version of the pip in `.venv`."""
    return tuple(int(part) for part in re.findall(r"\d+", installed("pip"))[:2])


def warn_of_cuda() -> None:
    """Say so when PyTorch came without the CPU index."""
    if sys.platform == "linux" and os.uname().machine == "x86_64" and "+" not in installed("torch"):
        print(
            "  The CPU build of PyTorch could not be reached; the usual build is installed "
            "instead, with several GB of CUDA libraries.",
            flush=True,
        )


def step(title: str, command: list[str]) -> None:
    """Run `command` under a progress line; SetupError with the likely cause when it fails."""
    progress = Progress(title)
    with (VENV / LOG).open("a") as log:
        print("$", *command, file=log, flush=True)
        process = subprocess.Popen(
            command,
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines: list[str] = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                progress.saw(line.strip())
                if not line.startswith("Progress "):
                    lines.append(line)
                    log.write(line)
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            progress.close()
    if process.wait() != 0:
        text = "".join(lines[-200:])
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-3:]
        cause = next((say for pattern, say in CAUSES if re.search(pattern, text)), "pip failed")
        raise SetupError(
            f"{title} failed: {cause}.\n{''.join(errors[-3:])}The full log is {VENV / LOG}"
        )


class Progress:
    """One line that shows a step is alive: seconds, and what pip is doing.

    On a terminal it is redrawn in place; elsewhere a line is printed every 15 seconds.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.doing = ""
        self.started = time.monotonic()
        self.redrawn = sys.stdout.isatty()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        if not self.redrawn:
            print(f"  {title} ...", flush=True)
        self.thread.start()

    def saw(self, line: str) -> None:
        """Note one line of pip's output."""
        words = line.split()
        if line.startswith("Progress ") and words[-1].isdigit() and int(words[-1]) > 0:
            name = self.doing.split(" [")[0]
            self.doing = f"{name} [{100 * int(words[1]) // int(words[-1])} %]"
        elif words and words[0] in {"Collecting", "Downloading", "Installing", "Building"}:
            self.doing = f"{words[0].lower()} {Path(words[1]).name if len(words) > 1 else ''}"

    def close(self) -> None:
        """Finish the line."""
        self.done.set()
        self.thread.join()
        end = "\n" if self.redrawn else " done\n"
        self._print(f"  {self.title}", end=end)

    def _run(self) -> None:
        while not self.done.wait(0.2 if self.redrawn else 15.0):
            self._print(f"  {self.title}: {self.doing}", end="" if self.redrawn else "\n")

    def _print(self, text: str, end: str) -> None:
        text = f"{text} ({time.monotonic() - self.started:.0f} s)"
        if self.redrawn:
            columns = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r\033[K" + text[:columns] + end)
        else:
            sys.stdout.write(text + end)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
