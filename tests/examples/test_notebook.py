"""examples/offline_run.ipynb, executed by Jupyter's own kernel on an offline run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.support import example
from tests.support.command import lines_of, run_inline

pytestmark = pytest.mark.slow

NOTEBOOK = example.EXAMPLES / "offline_run.ipynb"


def test_it_is_committed_without_what_it_showed() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert len(NOTEBOOK.read_bytes()) < 10_000


def executed(folder: Path) -> list[dict[str, Any]]:
    """The outputs of the notebook's cells, run beside the file that it reads, by the command that it names."""
    for needed in ("nbclient", "ipykernel", "pandas", "matplotlib"):
        pytest.importorskip(needed, reason=f"{needed}: pip install -r examples/requirements.txt")
    copy = shutil.copy(NOTEBOOK, folder)
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", NOTEBOOK.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [
        output for cell in json.loads(Path(copy).read_text())["cells"] for output in cell.get("outputs", [])
    ]


@pytest.mark.long
def test_it_shows_what_the_run_found(tmp_path: Path) -> None:
    assets = files("streamd") / "assets"
    run = tmp_path / "demo.jsonl"
    done = run_inline("detect", assets / "demo.mp4", "-m", assets / "demo.onnx", "--jsonl", run, "--every", 5)
    assert done.returncode == 0, done.stderr
    outputs = executed(tmp_path)
    assert [output for output in outputs if output["output_type"] in ("error", "stream")] == []
    tables = ["".join(output["data"]["text/plain"]) for output in outputs if "text/html" in output["data"]]
    *results, end = lines_of(run)
    assert f" {end['frames']} " in tables[0]
    counts = Counter(item["class"] for result in results for item in result["objects"])
    rows = {row.split()[0]: float(row.split()[1]) for row in tables[1].splitlines()[2:]}
    assert rows == counts
    assert len(rows) == 2
    pictures = [output for output in outputs if "image/png" in output["data"]]
    assert len(pictures) == 3


def test_a_run_without_objects_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first cells, without a kernel: it takes seconds to start."""
    for needed in ("pandas", "matplotlib"):
        pytest.importorskip(needed, reason=f"{needed}: pip install -r examples/requirements.txt")
    line = {"schema": "streamd.result/1", "source": "a", "input": 0, "frame": 0, "seq": 0, "objects": []}
    (tmp_path / "demo.jsonl").write_text(json.dumps({**line, "width": 9, "height": 9}) + "\n")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    with pytest.raises(AssertionError, match=r"demo\.jsonl: holds no object at all"):
        exec("".join(cells[0]["source"]) + "\n" + "".join(cells[1]["source"]), {})
