"""What a configuration asks of a machine: real files, ports, groups, processes and a real daemon."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamd.bus.keymaking import make_server
from streamd.diagnosis import configuration, endpoints, folders, supervision, trials
from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from streamd.service import unit as units
from streamd.service.unit import Unit
from tests.diagnosis.test_machine import only
from tests.service.test_unit import nobody
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model


def case_of(tmp_path: Path, environ: dict[str, str] | None = None, **sections: Any) -> Case:
    """A configuration that was read. streams: a `test:` source unless told otherwise."""
    make_number_model(tmp_path / "m.onnx")
    streams = sections.pop("streams", {"a": {"url": "test:"}})
    config = write_config(tmp_path / "c.yaml", tmp_path / "m.onnx", streams, **sections)
    case = Case(environ or {}, config, tmp_path)
    note(case, configuration.configuration(case))
    return case


def note(case: Case, items: Iterable[Item]) -> list[Item]:
    """The items, and as the examination does it, what they are is known from then on."""
    found = list(items)
    case.found |= {item.name: item for item in found}
    return found


@contextlib.contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def free_port() -> int:
    with taken() as port:
        return port


def test_a_configuration_that_runs(tmp_path: Path) -> None:
    case = case_of(tmp_path, publish={"bind": f"tcp://127.0.0.1:{free_port()}"})
    assert case.found["configuration"].found == f"{tmp_path}/c.yaml: 1 of 1 streams enabled"
    checks = (configuration.files, configuration.model, endpoints.publish, endpoints.metrics, endpoints.group)
    items = [item for check in checks for item in note(case, check(case))]
    assert {item.name: item.state for item in items} == {
        "model": "ok",
        "publish.bind": "ok",
        "publish.frames": "unused",
        "metrics.listen": "ok",
    }
    assert only(folders.cache(case)).state == "unused"


def test_faults_are_named_with_their_exit_code(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {path: m.onnx}\nstreams: {a: {url: 'test:', fsp: 3}}\n")
    item = only(configuration.configuration(Case({}, tmp_path / "c.yaml")))
    assert (item.name, item.state, item.exit_code) == ("streams.a.fsp", "wrong", 2)
    assert item.found.startswith("line 2: is not a key")
    item = only(configuration.configuration(Case({}, tmp_path / "none.yaml")))
    assert (item.name, item.state, item.exit_code) == ("configuration", "missing", 1)


def test_a_model_that_is_missing_or_none(tmp_path: Path) -> None:
    case = case_of(tmp_path)
    (tmp_path / "m.onnx").unlink()
    item = only(note(case, configuration.files(case)))
    assert (item.name, item.state, item.exit_code) == ("model.path", "missing", 1)
    assert list(configuration.model(case)) == []  # told of once
    (tmp_path / "m.onnx").write_text("no model")
    del case.found["model.path"]
    item = only(configuration.model(case))
    assert (item.name, item.state, item.exit_code) == ("model", "wrong", 2)


def test_a_known_model_that_is_not_here_yet_keeps_nothing_from_running(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {path: yolox-nano}\nstreams: {a: {url: 'test:'}}\n")
    case = Case({"CACHE_DIRECTORY": str(tmp_path / "cache")}, tmp_path / "c.yaml", tmp_path)
    note(case, configuration.configuration(case))
    item = only(configuration.model(case))
    assert (item.state, item.exit_code, item.fix) == ("missing", 0, "streamd models pull yolox-nano")
    assert item.found.startswith("yolox-nano is not here yet: `run` fetches it from https://")


def test_a_missing_credential_and_who_may_read_those_that_are_there(tmp_path: Path) -> None:
    streams = {"gate": {"url": "rtsp://h/", "username": "u", "password": "${cred:gate}"}}
    case = case_of(tmp_path, streams=streams)
    item = case.found["streams.gate.password"]
    assert (item.state, item.exit_code) == ("missing", 1)
    folder = tmp_path / "credentials"
    assert item.fix == f"CREDENTIALS_DIRECTORY={folder} streamd doctor -c {tmp_path}/c.yaml"
    folder.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    item = case_of(tmp_path, environ, streams=streams).found["streams.gate.password"]
    assert item.fix == f"systemd-ask-password gate | install -m 600 /dev/stdin {folder}/gate"
    (folder / "gate").write_text("hunter2\n")
    (folder / "gate").chmod(0o644)
    case = case_of(tmp_path, environ, streams=streams)
    assert case.is_ok("configuration")
    item = only(configuration.credentials(case))
    assert (item.state, item.fix, item.exit_code) == ("wrong", f"chmod 600 {folder}/gate", 0)
    assert "hunter2" not in str(item)
    folder.chmod(0o700)  # what lies in it is closed with it
    assert only(configuration.credentials(case)).state == "ok"
    folder.chmod(0o755)
    (folder / "gate").chmod(0o600)
    assert only(configuration.credentials(case)).state == "ok"
    gone = Case({"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})
    assert only(configuration.credentials(gone)).state == "wrong"
    assert only(configuration.credentials(Case({}, root=tmp_path))).state == "unused"


def test_the_keys_of_the_bus(tmp_path: Path) -> None:
    case = case_of(tmp_path, publish={"curve": "keys"})
    item = only(configuration.files(case))
    assert (item.name, item.state, item.exit_code) == ("publish.curve", "missing", 1)
    make_server(tmp_path / "keys", force=False)
    item = only(configuration.files(case))
    assert (item.state, item.found) == ("ok", f"{tmp_path}/keys: 0 clients may read")
    (tmp_path / "keys" / "server.key_secret").chmod(0o644)
    item = only(configuration.files(case))
    assert (item.state, item.exit_code) == ("missing", 1)
    assert "chmod 600" in item.found


def test_a_port_that_is_taken_is_named_with_who_has_it(tmp_path: Path) -> None:
    with taken() as port:
        case = case_of(
            tmp_path,
            publish={"bind": f"tcp://127.0.0.1:{port}"},
            metrics={"listen": f"127.0.0.1:{port}"},
        )
        items = [next(endpoints.publish(case)), only(endpoints.metrics(case))]
        name = Path("/proc/self/comm").read_text().strip()
        for item in items:
            assert (item.state, item.exit_code) == ("wrong", 1)
            assert item.found.endswith(f"127.0.0.1:{port} is in use by {name} (process {os.getpid()})")
            assert item.fix.endswith(f"kill {os.getpid()}")
        # As for a user who may not look into the process.
        case.root = tmp_path
        item = only(endpoints.metrics(case))
        assert item.found.endswith("is in use")
        assert item.fix.endswith(f"ss -Hltnp 'sport = :{port}'")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    case = case_of(tmp_path, publish={"bind": "tcp://192.0.2.1:5560"}, metrics={"listen": "192.0.2.1:9560"})
    for item in (next(endpoints.publish(case)), only(endpoints.metrics(case))):
        assert (item.state, item.exit_code) == ("wrong", 1)
        assert item.fix.startswith("# ")


def test_sockets_in_files(tmp_path: Path) -> None:
    def bind(path: str) -> Item:
        return next(endpoints.publish(case_of(tmp_path, publish={"bind": f"ipc://{path}"})))

    before = sorted(path.name for path in tmp_path.iterdir())
    assert bind(f"{tmp_path}/bus").state == "ok"
    assert {path.name for path in tmp_path.iterdir()} <= {*before, "m.onnx", "c.yaml"}
    item = bind(f"{tmp_path}/none/bus")
    assert (item.state, item.exit_code) == ("missing", 1)
    assert item.fix.startswith("install -d -o ")
    assert bind("/run/streamd-none/bus").state == "ok"
    assert bind(f"{tmp_path}/m.onnx").state == "wrong"
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(f"{tmp_path}/bus")
        assert bind(f"{tmp_path}/bus").state == "ok"  # a leftover
        holder.listen()
        item = bind(f"{tmp_path}/bus")
        assert (item.state, item.exit_code) == ("wrong", 1)
        assert f"(process {os.getpid()})" in item.found
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        case = case_of(tmp_path, publish={"bind": f"ipc://{name}/bus"})
        assert case.config is not None
        with nobody():
            item = next(endpoints.publish(case))
        assert (item.state, item.exit_code) == ("wrong", 1)


def test_groups(tmp_path: Path) -> None:
    def group(name: str) -> Item:
        return only(endpoints.group(case))

    case = case_of(tmp_path, publish={"bind": "ipc://bus", "group": "streamd-no-such"})
    item = only(endpoints.group(case))
    assert (item.state, item.fix, item.exit_code) == ("missing", "groupadd --system streamd-no-such", 1)
    case = case_of(tmp_path, publish={"bind": "ipc://bus", "group": "daemon"})
    if os.geteuid() == 0:
        assert only(endpoints.group(case)).state == "ok"
    with nobody():
        # Only the effective user changes there; root's groups stay, and daemon's is none of them.
        item = only(endpoints.group(case))
    assert (item.state, item.exit_code) == ("wrong", 1)
    assert "usermod -aG daemon" in item.fix


def test_providers_that_are_required(tmp_path: Path) -> None:
    def states(runtime: dict[str, Any]) -> dict[str, tuple[str, int]]:
        case = case_of(tmp_path, runtime=runtime)
        for name in trials.PROVIDERS:
            note(case, trials.Provider(name)(case))
        return {
            name.removeprefix("provider "): (item.state, item.exit_code)
            for name, item in case.found.items()
            if name.startswith("provider ")
        }

    assert states({"providers": ["tensorrt", "cuda", "cpu"]}) == {
        "tensorrt": ("unused", 0),
        "cuda": ("unused", 0),
        "cpu": ("ok", 0),
    }
    # No GPU here: what is asked for is missing.
    assert states({"providers": ["cuda", "cpu"], "fallback": False}) == {
        "tensorrt": ("unused", 0),
        "cuda": ("missing", 1),
        "cpu": ("unused", 0),
    }
    assert states({"providers": ["tensorrt", "cuda"]})["cuda"] == ("missing", 1)


def test_a_cache_that_the_configuration_names(tmp_path: Path) -> None:
    providers = ["tensorrt", "cpu"]
    case = case_of(tmp_path, runtime={"providers": providers, "cache_dir": "/proc/none"})
    item = only(folders.cache(case))
    assert (item.state, item.exit_code) == ("wrong", 1)
    case = case_of(tmp_path, runtime={"providers": providers, "cache_dir": str(tmp_path / "engines")})
    assert only(folders.cache(case)).state == "ok"
    assert not (tmp_path / "engines").exists()


@pytest.mark.slow
def test_the_daemon_of_this_configuration_may_run(tmp_path: Path) -> None:
    port = free_port()
    case = case_of(tmp_path, publish={"bind": "ipc://bus", "frames": f"tcp://127.0.0.1:{port}"})
    assert case.path is not None
    with RunningDaemon(case.path) as daemon:
        items = list(endpoints.publish(case))
        assert [item.state for item in items] == ["ok", "ok"], items
        for item in items:
            assert f"has it (process {daemon.process.pid})" in item.found
        other = tmp_path / "other.yaml"
        values = yaml.safe_load(case.path.read_text())
        other.write_text(json.dumps(values))
        again = Case({}, other)
        note(again, configuration.configuration(again))
        for item in endpoints.publish(again):
            assert (item.state, item.exit_code) == ("wrong", 1)
            assert f"streamd with {case.path} (process {daemon.process.pid})" in item.found
        assert daemon.stop() == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a machine with systemd."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return tmp_path


def test_the_unit(root: Path) -> None:
    folder = root / "etc/systemd/system"
    assert only(supervision.unit(Case({}, root=root / "none"))).found == "systemd does not run here"
    item = only(supervision.unit(Case({}, root=root)))
    assert item.state == "unused"
    assert item.fix.endswith("service install")
    config = root / 'an odd $name 100% "quoted".yaml'
    unit = Unit(units.this_command(), config, "root", credentials=("gate", "yard"))
    path = units.install(unit, folder, force=False)

    def first() -> Item:
        return next(iter(supervision.unit(Case({}, root=root))))

    assert first().found == f"{path}, as this version installs it"
    rest = [item.found for item in supervision.unit(Case({}, root=root))][1:]
    assert f"{config} is not there yet" in rest
    path.write_text(path.read_text().replace("WatchdogSec=30", "WatchdogSec=7"))
    assert first().state == "wrong"
    assert "another version's, or was edited" in first().found
    path.write_text(Unit(("/opt/other/bin/streamd",), config, "root").text())
    assert first().found.startswith("starts /opt/other/bin/streamd, not ")
    path.write_text("[Service]\nExecStart=/bin/true 'unclosed\n")
    assert first().state == "wrong"
    path.unlink()
    template = Unit(units.this_command(), Path("/etc/streamd/%i.yaml"), "root", template=True)
    units.install(template, folder, force=False)
    assert (first().name, first().state) == ("streamd@.service", "ok")


def test_a_user_that_is_missing_has_its_command(root: Path) -> None:
    unit = Unit(units.this_command(), Path("/none.yaml"), "streamd-nobody")
    units.install(unit, root / "etc/systemd/system", force=False)
    items = list(supervision.unit(Case({}, root=root)))
    made = next(item for item in items if item.found == "there is no user streamd-nobody")
    assert made.fix == units.make_user("streamd-nobody")
