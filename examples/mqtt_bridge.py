"""Bring what a daemon publishes to an MQTT broker.

Run:    python mqtt_bridge.py [ENDPOINT] --broker HOST [--port 1883] [--username NAME] [--tls] [--prefix streamd]
        The password is read from the environment variable MQTT_PASSWORD.
Prints: what becomes of the connection, to stderr: "mqtt_bridge: connected to localhost:1883"
Needs:  streamd (pyzmq and msgspec suffice: README.md, "A subscriber and nothing else") and paho-mqtt.

    PREFIX/STREAM/results     the result's JSON as it is
    PREFIX/STREAM/events      the stream's latest event      retained
    PREFIX/_daemon/events     the daemon's latest event      retained
    PREFIX/_daemon/status     the whole daemon, each second  retained
    PREFIX/available          online or offline              retained

Results are many and soon old: none is kept while the broker is away or slow, and a hole in `seq` shows it. What tells
how things are is retained, so that whoever subscribes knows at once, and it is sent again after each connect, since
a broker may have forgotten it. All that with QoS 0: with QoS 1 paho repeats what was under way when a connection
broke, after the newer state, and the broker would retain the older one. Events in between are not made up for.
`available` is offline when the daemon has been silent for 5 s, when this bridge ends, and, as its last will, when it
dies. Waits for a daemon and a broker that are not there yet; ends with Ctrl-C or SIGTERM.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections import deque

import paho.mqtt.client as mqtt

from streamd import StreamdError, messages

SILENCE_S = 5.0
MOST_WAITING = 200  # results that are not written to the broker yet


def say(text):
    print(f"mqtt_bridge: {text}", file=sys.stderr, flush=True)


class Broker:
    """The connection; paho makes it, and makes it again, in a thread of its own."""

    def __init__(self, options):
        self.name = f"{options.broker}:{options.port}"
        self.lock = threading.Lock()  # guards `state`, and that it is sent in the order in which it came
        self.state = {}
        self.waiting = deque()
        self.lost = 0
        self.away = False
        self.available = f"{options.prefix}/available"
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.will_set(self.available, "offline", retain=True)
        self.client.reconnect_delay_set(1, 30)
        self.client.on_connect = self.connected
        self.client.on_connect_fail = self.failed
        self.client.on_disconnect = self.disconnected
        if options.username:
            self.client.username_pw_set(options.username, os.environ.get("MQTT_PASSWORD"))
        if options.tls:
            self.client.tls_set()
        self.client.connect_async(options.broker, options.port, keepalive=30)
        self.client.loop_start()

    def connected(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            say(f"{self.name} refuses: {reason}")
            return
        say(f"connected to {self.name}")
        self.away = False
        with self.lock:
            for topic, body in self.state.items():
                client.publish(topic, body, retain=True)

    def failed(self, client, userdata):
        if not self.away:
            say(f"no broker at {self.name}, trying again")
            self.away = True

    def disconnected(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            say(f"{self.name} has gone ({reason}), trying again; {self.lost} results not sent so far")

    def retain(self, topic, body):
        with self.lock:
            if self.state.get(topic) != body:
                self.state[topic] = body
                if self.client.is_connected():
                    self.client.publish(topic, body, retain=True)

    def send(self, topic, body):
        while self.waiting and written(self.waiting[0]):
            self.waiting.popleft()
        if self.client.is_connected() and len(self.waiting) < MOST_WAITING:
            self.waiting.append(self.client.publish(topic, body))
        else:
            self.lost += 1

    def close(self):
        self.retain(self.available, "offline")
        # A thread that waits for a broker that takes nothing is left behind; the last will says the same then.
        self.client.disconnect()


def written(publication):
    try:
        return publication.is_published()
    except RuntimeError:  # went down with the connection
        return True


def carry(feed, broker, prefix):
    broker.retain(broker.available, "offline")
    while True:
        try:
            topic, body = feed.within(SILENCE_S)
        except TimeoutError:
            broker.retain(broker.available, "offline")
            continue
        broker.retain(broker.available, "online")
        target = prefix + topic.removeprefix("streamd")
        if topic.endswith("/results"):
            broker.send(target, body)
        elif not (json.loads(body).get("replay") and target in broker.state):
            broker.retain(target, body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("endpoint", nargs="?", default="tcp://127.0.0.1:5560")
    parser.add_argument("--broker", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--username")
    parser.add_argument("--tls", action="store_true", help="usually with --port 8883")
    parser.add_argument("--prefix", default="streamd")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    try:
        with messages(options.endpoint) as feed:
            broker = Broker(options)
            try:
                carry(feed, broker, options.prefix)
            finally:
                broker.close()
    except KeyboardInterrupt:
        pass
    except (StreamdError, ValueError, AttributeError) as error:  # the last two: no message, no port, no topic
        sys.exit(f"mqtt_bridge: {error}")


if __name__ == "__main__":
    main()
