"""What a commit is checked with: it finds nothing in what is committed, and needs nothing that `[dev]` lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# CI runs these by themselves, over the same files.
ELSEWHERE = "ruff,format,mypy"
# Large, and left out by .gitignore anyway.
_NOT_COPIED = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with the files as they are now: some hooks mend what they find."""
    shutil.copytree(ROOT, tmp_path, ignore=shutil.ignore_patterns(*_NOT_COPIED), dirs_exist_ok=True)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(
        tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.net", "commit", "--quiet", "-m", "as it is"
    )
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def hooks(folder: Path) -> subprocess.CompletedProcess[str]:
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "SKIP": ELSEWHERE,
        "PATH": found,
        "PRE_COMMIT_HOME": str(folder / ".git/hooks-home"),
    }
    return subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_committed_passes(checkout: Path) -> None:
    done = hooks(checkout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Passed") >= 9


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "content", "hook"),
    [
        ("docs/CONFIG.md", "password: rtsp://admin:hunter2@10.0.0.5/\n", "secrets"),
        ("streamd/assets/models.toml", 'key = "8f2383e4dd3cfbb4553ea8718107fc0423210dc9"\n', "secrets"),
        ("large.txt", "x" * 600_000 + "\n", "large files"),
        ("other.yaml", "a: [\n", "YAML"),
    ],
)
def test_what_must_not_be_committed_does_not(checkout: Path, name: str, content: str, hook: str) -> None:
    with (checkout / name).open("a") as file:
        file.write(content)
    git(checkout, "add", "--all")
    done = hooks(checkout)
    assert done.returncode != 0
    failed = [line for line in done.stdout.splitlines() if line.endswith("Failed")]
    assert [line.split(".")[0] for line in failed] == [hook]
