"""Draw what `to_sqlite.py` kept: how many objects of a class each stream saw over time.

Run:    python plot_sqlite.py results.db people.png [--class person] [--minutes 60]
Prints: people.png: person, 2 streams, 3600 s in steps of 8 s
Needs:  matplotlib.

The line is the mean a result, the pale area reaches to the most at a time. Where there was no result there is no
line: nothing seen and nothing known do not look alike. May be run while the file is written.
"""

import argparse
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

STEPS = 500
SPAN = "SELECT min(received_us), max(received_us) FROM results"
COUNTS = """
    SELECT stream, (received_us - :begin) / :step AS slot, avg(count), max(count) FROM (
        SELECT stream, received_us, count(objects.result) AS count
        FROM results LEFT JOIN objects ON objects.result = results.id AND class = :class
        WHERE received_us >= :begin GROUP BY results.id)
    GROUP BY stream, slot ORDER BY stream, slot
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("picture")
    parser.add_argument("--class", dest="class_name", default="person")
    parser.add_argument("--minutes", type=float, help="only the last so many")
    options = parser.parse_args()
    try:
        database = sqlite3.connect(f"{Path(options.file).absolute().as_uri()}?mode=ro", uri=True)
        begin, end = database.execute(SPAN).fetchone()
        if begin is None:
            sys.exit(f"plot_sqlite: {options.file}: holds no results yet")
        if options.minutes:
            begin = max(begin, end - int(options.minutes * 60e6))
        step = max(1_000_000, (end - begin) // STEPS)
        asked = {"begin": begin, "step": step, "class": options.class_name}
        slots = {}
        for stream, slot, mean, most in database.execute(COUNTS, asked):
            slots.setdefault(stream, {})[slot] = mean, most
    except sqlite3.Error as error:
        sys.exit(f"plot_sqlite: {options.file}: {error}")
    places = range((end - begin) // step + 1)
    times = [datetime.fromtimestamp((begin + (slot + 0.5) * step) / 1e6, UTC) for slot in places]
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    for stream, counted in slots.items():
        means, most = zip(*(counted.get(slot, (float("nan"),) * 2) for slot in places), strict=True)
        # A point that stands alone between gaps would not show as a line.
        (line,) = axes.plot(times, means, label=stream, marker=".", markersize=3)
        axes.fill_between(times, means, most, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator := AutoDateLocator()))
    axes.xaxis.set_major_locator(locator)
    axes.set(ylabel=f"{options.class_name} a result", xlabel="UTC")
    axes.set_ylim(bottom=0)
    axes.legend()
    try:
        figure.savefig(options.picture, dpi=120)
    except (OSError, ValueError) as error:
        sys.exit(f"plot_sqlite: {options.picture}: {error}")
    span = f"{(end - begin) / 1e6:.0f} s in steps of {step / 1e6:.0f} s"
    print(f"{options.picture}: {options.class_name}, {len(slots)} streams, {span}")


if __name__ == "__main__":
    main()
