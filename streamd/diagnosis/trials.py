"""What is tried and not asked: each provider runs a model, each decoder a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item, State
from streamd.diagnosis.nvidia import DRIVER, has_gpu, why_not
from streamd.diagnosis.packages import pip

PROVIDERS = ("tensorrt", "cuda", "cpu")
_GPU_FIX = "# see docs/TROUBLESHOOTING.md: The GPU is not used"


class Provider:
    """The check of one provider."""

    def __init__(self, name: str) -> None:
        self.name = name

    def needed(self, case: Case) -> bool:
        """Whether nothing is served when this one does not run."""
        wanted = _wanted(case)
        if self.name not in wanted:
            return False
        last = [name for name in PROVIDERS if name in wanted][-1]
        return self.name == last and not any(case.is_ok(f"provider {name}") for name in wanted)

    def __call__(self, case: Case) -> Iterator[Item]:
        """See `Find`."""
        title, wanted = f"provider {self.name}", _wanted(case)
        if self.name not in wanted:
            config = case.config
            why = "not in runtime.providers"
            if config is not None and self.name in config.runtime.providers:
                why = "runtime.fallback: false, and it is not the first"
            yield Item(name=title, state="unused", found=why)
            return
        needed = self.needed(case)
        if self.name != "cpu" and not has_gpu(case) and not needed:
            yield Item(name=title, state="unused", found=why_not(case))
            return
        yield self._tried(case, title, 1 if needed else 0)

    def _tried(self, case: Case, title: str, code: int) -> Item:
        if case.scratch is None:
            found = "cannot be tried: there is no folder for temporary files"
            fix = "# make room in /tmp, or name another folder with TMPDIR"
            return Item(name=title, state="wrong", found=found, fix=fix)
        fix = f"{pip()} install --force-reinstall --no-deps onnxruntime-gpu"
        try:
            from streamd.core.errors import StreamdError
            from streamd.models.trial import TrialError, try_provider

            config = case.config
            trial = try_provider(
                self.name,  # type: ignore[arg-type] # the table of checks makes one for each provider
                0 if config is None else config.runtime.device,
                case.scratch,
            )
        except (ImportError, AttributeError) as error:
            found = f"cannot be tried: {' '.join(str(error).split())[:160]}"
            return Item(name=title, state="wrong", found=found, fix=fix, exit_code=code)
        except (StreamdError, TrialError, OSError) as error:
            found = str(error).partition("; runtime.fallback")[0].removeprefix(f"{self.name} ")
            found, fix = _cure(found, fix if self.name == "cpu" else _GPU_FIX)
            lacks: State = "missing" if "is missing" in found else "wrong"
            return Item(name=title, state=lacks, found=found, fix=fix, exit_code=code)
        return Item(name=title, state="ok", found=f"runs, {trial.warm_ms:.2f} ms for a tiny model")


def _cure(found: str, fix: str) -> tuple[str, str]:
    """What is wrong, and what mends that: a message may end with it, in brackets. A driver is not mended by pip."""
    split = re.fullmatch(r"(.*?) \((.*)\)", found)
    if split is not None and "error" not in split[2]:
        found = split[1]
        fix = split[2].replace("pip", pip(), 1) if split[2].startswith("pip ") else f"# {split[2]}"
    elif "driver" in found.lower():
        fix = f"# see {DRIVER}, above"
    return found.removeprefix("does not run here: "), fix


def _wanted(case: Case) -> tuple[str, ...]:
    config = case.config
    if config is None:
        return PROVIDERS
    return config.runtime.providers if config.runtime.fallback else config.runtime.providers[:1]


class Decoder:
    """The check of one decoder."""

    def __init__(self, name: str, clip: str, *, gpu: bool) -> None:
        self.name = name
        self._clip = clip
        self._gpu = gpu

    def __call__(self, case: Case) -> Iterator[Item]:
        """See `Find`."""
        if self._gpu and not has_gpu(case):
            yield Item(name=self.name, state="unused", found=why_not(case))
            return
        code = 0 if self._gpu else 1
        fix = "# streams are decoded on the CPU; see docs/TROUBLESHOOTING.md"
        if not self._gpu:
            fix = f"{pip()} install --force-reinstall --no-deps av"
        try:
            from streamd.sources.libav.trial import PICTURES, TrialError, try_decoder
        except (ImportError, AttributeError, OSError):
            yield Item(name=self.name, state="wrong", found="PyAV does not load", fix=fix, exit_code=1)
            return
        config = case.config
        device = 0 if config is None else config.runtime.device
        try:
            with resources.as_file(resources.files("streamd").joinpath("assets", self._clip)) as clip:
                used = try_decoder(clip, device if self._gpu else None)
        except TrialError as error:
            yield Item(name=self.name, state="wrong", found=str(error), fix=fix, exit_code=code)
            return
        where = f"on GPU {device}" if self._gpu else "on the CPU"
        yield Item(name=self.name, state="ok", found=f"{used} {where}, {PICTURES} pictures as they should be")
