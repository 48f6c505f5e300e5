"""Print what a daemon sees, a line a result.

Run:    python subscriber.py [ENDPOINT]      (by default tcp://127.0.0.1:5560)
Prints: gate 1842: person 0.91, vehicle 0.77
Needs:  streamd; pyzmq and msgspec suffice (README.md, "A subscriber and nothing else").

Waits for a daemon that is not there yet, goes on when it comes back, ends with Ctrl-C.
"""

import signal
import sys

from streamd import StreamdError, subscribe

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads this, `head` for one, may leave
try:
    for result in subscribe(*sys.argv[1:2]):
        seen = ", ".join(f"{item.class_name} {item.score:.2f}" for item in result.objects)
        print(f"{result.stream} {result.seq}: {seen or '-'}", flush=True)
except StreamdError as error:
    sys.exit(f"subscriber: {error}")
except KeyboardInterrupt:
    pass
