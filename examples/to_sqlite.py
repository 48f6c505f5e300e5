"""Keep a daemon's results in an SQLite file.

Run:    python to_sqlite.py results.db [ENDPOINT] [--stream ID]
Prints: results.db: 1842 results, 12 lost on the way (to stderr, at the end)
Needs:  streamd; pyzmq and msgspec suffice (README.md, "A subscriber and nothing else").

    sqlite3 results.db "SELECT stream, max(seq), max(dropped) FROM results GROUP BY run, stream, epoch"
    sqlite3 results.db "SELECT class, count(*) FROM objects WHERE score > 0.5 GROUP BY class"

Written twice a second, and at the end: a kill loses what came since. In WAL mode others may read meanwhile, and two
of these may write one file. Nothing is ever deleted here. `plot_sqlite.py` draws the file.
Waits for a daemon that is not there yet; ends with Ctrl-C or SIGTERM.
"""

import argparse
import signal
import sqlite3
import sys
import threading
import time

from streamd import StreamdError, subscribe

EVERY_S = 0.5
TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY, run TEXT, stream TEXT, epoch INTEGER, seq INTEGER, frame INTEGER, dropped INTEGER,
    received_us INTEGER, pts REAL, width INTEGER, height INTEGER, model TEXT, total_ms REAL,
    UNIQUE (run, stream, epoch, seq));
CREATE TABLE IF NOT EXISTS objects (
    result INTEGER REFERENCES results, class TEXT, score REAL, x1 REAL, y1 REAL, x2 REAL, y2 REAL);
CREATE INDEX IF NOT EXISTS objects_by_result ON objects (result);
"""


def opened(file):
    """The database with its tables. At the change to WAL writers refuse each other, whatever their time-out."""
    database = sqlite3.connect(file, timeout=30)  # so long a writer waits for another one
    for attempts_left in range(99, -1, -1):
        try:
            database.executescript(TABLES)
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or not attempts_left:
                raise
            time.sleep(0.1)
    return database


def insert(database, result):
    """Adds a result and its objects; returns how many that were, none for one that is there already."""
    row = {
        **{name: getattr(result, name) for name in ("run", "stream", "epoch", "seq", "frame", "dropped")},
        **{name: getattr(result, name) for name in ("received_us", "width", "height", "model")},
        "pts": result.pts if isinstance(result.pts, float) else None,  # not every stream has media time
        "total_ms": result.stages_ms.get("total"),
    }
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    added = database.execute(f"INSERT OR IGNORE INTO results ({names}) VALUES ({places})", row)
    if added.rowcount:
        objects = [(added.lastrowid, item.class_name, item.score, *item.box) for item in result.objects]
        database.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", objects)
    return added.rowcount


def keep(database, results, stop):
    """Until `stop`; returns how many results were added, in batches, so that the file is locked for moments only."""
    count, batch, written = 0, [], time.monotonic()
    while not stop.is_set():
        try:
            batch.append(next(results))
        except TimeoutError:
            pass
        if stop.is_set() or time.monotonic() - written > EVERY_S:
            with database:  # all of it or nothing
                count += sum(insert(database, result) for result in batch)
            batch, written = [], time.monotonic()
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("endpoint", nargs="?", default="tcp://127.0.0.1:5560")
    parser.add_argument("--stream")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        database = opened(options.file)
        with subscribe(options.endpoint, stream=options.stream, timeout_s=EVERY_S) as results:
            count = keep(database, results, stop)
        database.close()
    except (StreamdError, sqlite3.Error) as error:
        sys.exit(f"to_sqlite: {options.file}: {error}")
    print(f"{options.file}: {count} results, {results.gaps} lost on the way", file=sys.stderr)


if __name__ == "__main__":
    main()
