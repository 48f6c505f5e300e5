"""A child of `tests.support.bad_clips.campaign` that does with some seeds what none may do."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main(seeds: list[int]) -> None:
    for seed in seeds:
        print(json.dumps({"begins": seed}), flush=True)
        if seed == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if seed == 5:
            time.sleep(3600)
        if seed == 7:
            print("chatter of a library", file=sys.stderr, flush=True)
        answer = {"seed": seed, "kind": "x", "code": 0, "frames": 1, "reason": None, "took_s": 0.0}
        print(json.dumps({**answer, "fault": None, "said": os.fstat(2).st_size}), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[2:]])
