"""What the process gives its daemon besides the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from streamd.bus.keys import Keyring
from streamd.core.secrets import Redactor
from streamd.service.log_output import LogOutput
from streamd.service.signals import HangUps
from streamd.service.systemd import Notifier


@dataclass(frozen=True, slots=True)
class Host:
    """The file to read again, who hides secrets, who heard SIGHUP, who tells systemd, the keys, and the log."""

    path: Path
    redact: Redactor = field(default_factory=Redactor)
    hang_ups: HangUps = field(default_factory=HangUps)
    notifier: Notifier = field(default_factory=lambda: Notifier({}))
    keyring: Keyring | None = None
    log: LogOutput = field(default_factory=LogOutput)
