"""Configurations that are not right: faults with their place, whatever it is, and in time."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.support import bad_configs
from tests.support.bad_configs import CREDENTIAL, config_of, refused_or_taken, write_credentials
from tests.support.command import run, run_inline

LONG = 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_credentials(tmp_path)
    return tmp_path


def load_all(folder: Path, seeds: Sequence[int]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcomes[refused_or_taken(seed, folder)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}: {config_of(seed)[:500]!r}")
            raise
    return outcomes


def test_what_the_damage_is_done_to_is_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (yaml.safe_dump(bad_configs._TREE), bad_configs._GOOD):
        monkeypatch.setattr(bad_configs, "config_of", lambda seed, text=text: text.encode())
        assert refused_or_taken(0, folder) == "taken"


@pytest.mark.long
def test_bad_configurations_are_refused_with_places(folder: Path) -> None:
    outcomes = load_all(folder, range(120))
    assert outcomes["refused"] > 60
    assert outcomes["taken"] > 3


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_bad_configurations_are_refused_with_places(folder: Path) -> None:
    started = time.monotonic()
    outcomes = load_all(folder, range(1000, 1000 + LONG))
    print(f"{dict(outcomes)} in {time.monotonic() - started:.0f} s")
    assert outcomes["refused"] > LONG // 2


@pytest.mark.slow
def test_aliases_that_unfold_to_billions_are_refused_at_once(folder: Path) -> None:
    for width, depth in ((2, 30), (9, 9), (50, 40)):
        (folder / "a.yaml").write_text(bad_configs._laughs(width, depth))
        done = run_inline("check", "-c", folder / "a.yaml")
        assert done.returncode == 2
        assert "once its aliases are unfolded" in done.stderr


def test_a_control_character_has_its_line(folder: Path) -> None:
    for content, line in (("a: b\nc: \0d\n", 2), ("a\r\nb\x01", 2), ("\x7f", 1), ("a: 1\n" * 9 + "\x1b", 10)):
        (folder / "a.yaml").write_text(content, newline="")
        done = run_inline("check", "-c", folder / "a.yaml")
        assert done.returncode == 2
        assert f"a.yaml:{line}: not YAML: a control character" in done.stderr


def test_a_reference_with_an_endless_name_is_refused_without_it(folder: Path) -> None:
    (folder / "a.yaml").write_text(bad_configs._GOOD.replace("a.onnx}", "'${cred:" + "n" * 9000 + "}'}", 1))
    done = run_inline("check", "-c", folder / "a.yaml")
    assert done.returncode == 2
    assert "a.yaml:1: model.path: a reference whose name is longer than 255" in done.stderr
    assert len(done.stderr) < 500


def check_all(folder: Path, seeds: Sequence[int]) -> Counter[int]:
    codes: Counter[int] = Counter()
    path = folder / "streamd.yaml"
    environ = {**os.environ, "CREDENTIALS_DIRECTORY": str(folder), "USER_NAME": "viewer"}
    for seed in seeds:
        path.write_bytes(config_of(seed))
        done = run("check", "-c", path, timeout_s=60, env=environ)
        codes[done.returncode] += 1
        # 1: nothing in the file need change, and something that it names is missing, as its model is here.
        assert done.returncode in (1, 2), (seed, done)
        assert done.stderr, seed
        for line in done.stderr.splitlines():
            assert line.startswith(f"{path}:"), (seed, line)
        assert CREDENTIAL not in done.stdout + done.stderr, seed
    return codes


@pytest.mark.long
def test_the_command_names_the_faults(folder: Path) -> None:
    assert check_all(folder, (2, 5)).keys() <= {1, 2}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_command_names_the_faults_long(folder: Path) -> None:
    codes = check_all(folder, range(100, 160))
    assert codes[2] > 20


@pytest.mark.long
@pytest.mark.parametrize("key", ["path", "labels"])
def test_what_is_no_file_is_refused_at_once(folder: Path, key: str) -> None:
    """A device that never ends, a pipe that nobody writes to."""
    os.mkfifo(folder / "pipe")
    for name in ("/dev/zero", str(folder / "pipe")):
        keys = {"path": "streamd/assets/demo.onnx", key: name}
        keys["path"] = str(Path(bad_configs.__file__).parents[2] / keys["path"])
        config = folder / "a.yaml"
        config.write_text(yaml.safe_dump({"model": keys, "streams": {"a": {"url": "test:"}}}))
        done = run("check", "-c", config, timeout_s=60)
        assert done.returncode in (1, 2), done
        assert done.stderr, name
        assert "Traceback" not in done.stderr, done.stderr
