"""The systemd units: what systemd-analyze says of them, and `streamd service install`, which writes them."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamd.core.errors import OutputError
from streamd.service import unit as units
from streamd.service.unit import Unit
from tests.support.command import fails, run_inline

SHIPPED = Path(__file__).parents[2] / "systemd"
CONFIG = """
model: {path: m.onnx}
streams:
  gate: {url: rtsp://10.0.0.5/1, username: u, password: "${cred:gate}"}
  yard: {url: "${cred:yard-url}"}
"""


@pytest.fixture(scope="module")
def analyze() -> str:
    """Skips, naming the package, where there is no systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    return found


def settings(text: str, key: str) -> list[str]:
    return re.findall(rf"(?m)^{re.escape(key)}=(.*)$", text)


def verify(analyze: str, path: Path) -> None:
    """systemd itself finds nothing to say about the unit."""
    told = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


@pytest.mark.parametrize("template", [False, True])
def test_the_shipped_unit_is_what_is_installed(template: bool) -> None:
    config = Path("/etc/streamd/%i.yaml") if template else units.CONFIG
    unit = Unit(config=config, template=template)
    assert (SHIPPED / unit.name).read_text() == unit.text()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.service")), ids=lambda path: path.name)
def test_systemd_takes_the_shipped_units_and_calls_them_safe(analyze: str, path: Path) -> None:
    verify(analyze, path)
    told = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    level = re.search(r"Overall exposure level for \S+ ([0-9.]+)", told)
    assert level is not None, told
    assert float(level[1]) <= 2.0


def test_the_unit_says_what_the_daemon_relies_on() -> None:
    text = (SHIPPED / "streamd.service").read_text()
    for key, value in {
        "Type": "notify",
        "RestartPreventExitStatus": "2",
        "Restart": "on-failure",
        "RestartSec": "5",
        "StartLimitIntervalSec": "0",
        "DevicePolicy": "closed",
        "ExecStartPre": "-+/usr/bin/nvidia-modprobe -c 0 -u",
        "StateDirectory": "streamd",
        "CacheDirectory": "streamd",
        "RuntimeDirectory": "streamd",
        "LimitCORE": "0",
    }.items():
        assert settings(text, key) == [value]
    assert "char-nvidia* rw" in settings(text, "DeviceAllow")
    # The worker and the publisher turn each second; a batch takes longer.
    assert int(settings(text, "WatchdogSec")[0]) >= 10
    # The process that builds an engine may go without the daemon.
    assert settings(text, "OOMPolicy") == ["continue"]


@pytest.mark.slow
def test_install_writes_a_unit_that_systemd_takes(analyze: str, tmp_path: Path) -> None:
    config = tmp_path / "streamd.yaml"
    config.write_text(CONFIG)
    result = run_inline("service", "install", "-c", config, "--unit-dir", tmp_path, "--user", "daemon")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "streamd.service"
    assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(one.name for one in tmp_path.iterdir()) == ["streamd.service", "streamd.yaml"]
    text = path.read_text()
    (start,) = settings(text, "ExecStart")
    program, *words = shlex.split(start)
    assert Path(program).is_absolute()
    assert words[-3:] == ["run", "-c", str(config)]
    told = subprocess.run([program, *words[:-3], "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("streamd ")
    assert settings(text, "User") == ["daemon"]
    folder = tmp_path / "credentials"
    assert settings(text, "LoadCredential") == [f"gate:{folder}/gate", f"yard-url:{folder}/yard-url"]
    assert "systemctl daemon-reload" in result.stdout
    assert f"{folder}/gate is not there yet" in result.stderr
    verify(analyze, path)


def test_install_writes_a_template(analyze: str, tmp_path: Path) -> None:
    result = run_inline("service", "install", "--template", "-c", tmp_path, "--unit-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "streamd@.service").read_text()
    assert settings(text, "ExecStart")[0].endswith(f" run -c {tmp_path}/%i.yaml")
    # The end of one instance must not remove the folder of another.
    assert settings(text, "RuntimeDirectory") == ["streamd-%i"]
    assert "streamd@NAME" in result.stdout
    verify(analyze, tmp_path / "streamd@.service")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a b.yaml", "100%.yaml", "$HOME.yaml", 'quo"te.yaml', "back\\slash.yaml", "é.yaml"]
)
def test_a_config_with_an_odd_name(analyze: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONFIG)
    result = run_inline("service", "install", "-c", tmp_path / name, "--unit-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    verify(analyze, tmp_path / "streamd.service")
    (start,) = settings((tmp_path / "streamd.service").read_text(), "ExecStart")
    # systemd.unit(5): %% and $$ stand for one each, quotes and backslashes as in C.
    assert shlex.split(start)[-1].replace("%%", "%").replace("$$", "$") == str(tmp_path / name)


def test_a_unit_that_is_there_is_kept(tmp_path: Path) -> None:
    arguments = ("service", "install", "-c", tmp_path / "none.yaml", "--unit-dir", tmp_path)
    path = tmp_path / "streamd.service"
    path.write_text("mine")
    fails(run_inline(*arguments), 2, str(path), "exists", "--force")
    assert path.read_text() == "mine"
    assert run_inline(*arguments, "--force").returncode == 0
    written = path.read_text()
    assert written != "mine"
    assert run_inline(*arguments).returncode == 0  # the same again
    path.unlink()
    path.symlink_to("/dev/null")  # masked
    fails(run_inline(*arguments), 2, "exists")
    assert run_inline(*arguments, "--force").returncode == 0
    assert not path.is_symlink()
    assert path.read_text() == written


def test_print_writes_nothing(tmp_path: Path) -> None:
    result = run_inline(
        "service", "install", "--print", "-c", tmp_path / "c.yaml", "--unit-dir", tmp_path / "no"
    )
    assert result.returncode == 0
    assert settings(result.stdout, "Type") == ["notify"]
    assert f"{tmp_path}/c.yaml is not there yet" in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    fails(run_inline("service", "install", "--unit-dir", tmp_path / "no"), 1, "no folder", "--unit-dir")
    fails(run_inline("service", "install", "--unit-dir", tmp_path, "--user", "a b"), 2, "--user", "a b")
    config = tmp_path / "new\nline.yaml"
    fails(run_inline("service", "install", "--unit-dir", tmp_path, "-c", config), 2, "control character")
    assert not list(tmp_path.iterdir())


def test_a_config_that_is_no_yaml_is_told_and_the_unit_written(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{")
    result = run_inline("service", "install", "-c", tmp_path / "c.yaml", "--unit-dir", tmp_path)
    assert result.returncode == 0
    assert "warning: " in result.stderr
    assert "not YAML" in result.stderr
    assert (tmp_path / "streamd.service").exists()


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights, where the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_who_may_not_write_there_is_told_to_be_root() -> None:
    # pytest's own folders are closed to everybody else.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with (
            pytest.raises(OutputError, match=r"streamd\.service may not be written .* run it as root"),
            nobody(),
        ):
            units.install(Unit(), Path(name), force=False)
        assert not list(Path(name).iterdir())


def test_what_keeps_the_service_from_starting_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "c.yaml").chmod(0o600)

    def told(**changes: object) -> str:
        unit = Unit(**{"command": ("/bin/true",), "config": Path("/bin/true"), **changes})  # type: ignore[arg-type]
        return "\n".join(unit.obstacles())

    assert "there is no user streamd-nobody: useradd --system" in told(user="streamd-nobody")
    assert "/home/me/bin/streamd is hidden" in told(command=("/home/me/bin/streamd",))
    assert "/root/c.yaml is not there yet" in told(config=Path("/root/c.yaml"))
    assert f"{tmp_path}/c.yaml" in told(config=tmp_path / "c.yaml", user="nobody")
    assert "/bin/true" not in told(user="nobody")
