"""How many people each camera saw, minute by minute, and how much of the minute it saw at all.

Run:    python count_people.py [ENDPOINT] [--class person] [--seconds 60] [--time received|media]
Prints: CSV, a row for each stream and minute:

    minute,stream,mean,most,seen_s,results,dropped,lost,events
    2026-11-23T14:02:00Z,gate,2.31,5,60.0,1500,0,0,
    2026-11-23T14:03:00Z,gate,1.97,4,41.2,1030,3,0,stalled lost:timeout connecting live

Needs:  streamd; pyzmq and msgspec suffice (README.md, "A subscriber and nothing else").

mean, most: people in the picture at a time. Nothing tracks them, so how many different ones came by is not known.
seen_s: how much of the minute is known. A result holds until the next one, but for a second at most; what lies beyond
is a gap and enters no mean. A minute without a result has a row without figures: that is not nobody.
dropped: frames that the daemon left out (its own rate limit is one reason); lost: results that this reader did not
get. Both show with the result after them. The first minute is short: it begins when this program does.

`received` is the daemon's clock. `media` is the time in the stream or file; where that goes back (a file that plays
again) minutes begin anew. Waits for a daemon that is not there yet; Ctrl-C writes the minutes that are not over.
"""

import argparse
import csv
import json
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

from streamd import StreamdError, messages

HOLD_S = 1.0
LATE_S = 3.0  # results may come so much later than they were received
JUMP_S = 3600.0  # what is further away is no gap: somebody set a clock


def wall_time(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def media_time(seconds):
    return str(timedelta(seconds=seconds))  # 0:01:00


class Stream:
    """One stream's minute. All times are seconds of the chosen clock."""

    def __init__(self, name, now, seconds, media):
        self.name, self.seconds = name, seconds
        self.back_s = HOLD_S if media else JUMP_S
        self.label = media_time if media else wall_time
        self.last = None  # of the last result: run and epoch, seq, dropped
        self.begin(now)

    def begin(self, now):
        self.start = now // self.seconds * self.seconds
        self.at, self.until, self.people = now, now, 0  # how many there were, and until when that holds
        self.clear()

    def clear(self):
        self.sum = self.seen_s = self.most = self.results = self.dropped = self.lost = 0
        self.events = []

    def advance(self, now):
        """Time has gone on to `now`; each minute that ended meanwhile is written."""
        while self.at < now:
            end = min(now, self.start + self.seconds)
            held = max(0.0, min(end, self.until) - self.at)
            self.sum, self.seen_s, self.at = self.sum + held * self.people, self.seen_s + held, end
            if held:
                self.most = max(self.most, self.people)
            if end == self.start + self.seconds:
                self.write()
                self.clear()
                self.start = end

    def result(self, message, now, people):
        if not -self.back_s <= now - self.at <= JUMP_S:
            self.write()
            self.begin(now)
        self.advance(now)
        run = message["run"], message["epoch"]
        if self.last and self.last[0] == run:
            self.lost += message["seq"] - self.last[1] - 1
            self.dropped += message["dropped"] - self.last[2]
        self.last = run, message["seq"], message["dropped"]
        self.people, self.until = people, self.at + HOLD_S
        self.results += 1

    def write(self):
        minute = self.label(self.start)
        figures = (f"{self.sum / self.seen_s:.2f}", self.most) if self.seen_s else ("", "")
        counts = f"{self.seen_s:.1f}", self.results, self.dropped, self.lost
        csv.writer(sys.stdout).writerow((minute, self.name, *figures, *counts, " ".join(self.events)))
        sys.stdout.flush()


def count(feed, options, streams):
    ahead_s = 0.0  # of our clock: the daemon's, as its last message showed
    media = options.time == "media"
    while True:
        try:
            _, body = feed.within(1.0)
        except TimeoutError:
            body = b"{}"
        message = json.loads(body)
        kind, name = message.get("schema"), message.get("stream")
        sent_us = message.get("published_us") or message.get("at_us")
        if sent_us and not message.get("replay"):
            ahead_s = sent_us / 1e6 - time.time()
        now = time.time() + ahead_s
        if kind == "streamd.result/1":
            if media and "pts" not in message:
                raise StreamdError(f"{name}: carries no media time; leave --time out")
            at = message["pts"] if media else message["received_us"] / 1e6
            if name not in streams:
                streams[name] = Stream(name, at, options.seconds, media)
            people = sum(item["class"] == options.class_name for item in message["objects"])
            streams[name].result(message, at, people)
        elif kind == "streamd.event/1" and name:
            if name not in streams and not media:  # a camera that is down has minutes, too
                streams[name] = Stream(name, now, options.seconds, media)
            if name in streams and not message.get("replay"):
                if not media:
                    streams[name].advance(now)
                reason = f":{message['reason']}" if "reason" in message else ""
                streams[name].events.append(message["event"] + reason)
        if not media:
            for stream in streams.values():
                stream.advance((now - LATE_S) // options.seconds * options.seconds)
        if kind == "streamd.event/1" and message["event"] == "removed" and name in streams:
            streams.pop(name).write()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("endpoint", nargs="?", default="tcp://127.0.0.1:5560")
    parser.add_argument("--class", dest="class_name", default="person")
    parser.add_argument("--seconds", type=float, default=60.0, help="the length of a minute")
    parser.add_argument("--time", choices=("received", "media"), default="received")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads this, `head` for one, may leave
    streams = {}
    try:
        print("minute,stream,mean,most,seen_s,results,dropped,lost,events", flush=True)
        with messages(options.endpoint) as feed:
            count(feed, options, streams)
    except KeyboardInterrupt:
        for stream in streams.values():
            stream.write()
    except StreamdError as error:
        sys.exit(f"count_people: {error}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        sys.exit(f"count_people: {options.endpoint}: what comes is no message of streamd ({error!r})")


if __name__ == "__main__":
    main()
