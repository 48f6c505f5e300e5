"""Looks up known vulnerabilities of everything that is installed here beside streamd, and fails if it cannot.

    python -m tools.audit
    STREAMD_OSV_URL=http://osv.example.net/v1/query python -m tools.audit

pip-audit leaves out what it cannot look up and passes; here each of those is an error. streamd itself is left out: it
is what is being checked, and no index knows this version of it. The package index is asked, or a mirror of the OSV
database that STREAMD_OSV_URL names, where no other can be reached.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path


def main() -> int:
    """0 when everything was looked up and nothing was found."""
    pinned = sorted(
        {
            f"{found.metadata['Name']}=={found.version}"
            for found in distributions()
            if found.metadata["Name"] != "streamd"
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "installed.txt"
        requirements.write_text("\n".join(pinned) + "\n")
        command = ["pip_audit", "--strict", "--progress-spinner=off", "--disable-pip", "--no-deps"]
        if mirror := os.environ.get("STREAMD_OSV_URL"):
            command += ["--vulnerability-service=osv", f"--osv-url={mirror}", f"--cache-dir={folder}/cache"]
        status = subprocess.run([sys.executable, "-m", *command, "-r", str(requirements)]).returncode
    if status:
        print(
            f"audit: failed. None of these {len(pinned)} packages counts as audited until this passes: "
            "a vulnerability was found above, or the advisory service could not be asked",
            file=sys.stderr,
        )
    else:
        print(f"audit: {len(pinned)} packages looked up at {mirror or 'the package index'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
