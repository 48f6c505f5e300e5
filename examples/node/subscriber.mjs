// Print what a daemon sees, a line a result: the same as subscriber.py, in JavaScript.
//
// Run:    npm install && node subscriber.mjs [ENDPOINT] [STREAM]     (in this folder; Node 18 or newer)
// Prints: gate 1842: person 0.91, vehicle 0.77
// Needs:  the package zeromq (libzmq comes with it, nothing is compiled on the usual machines). No streamd.
//
// Waits for a daemon that is not there yet, goes on when it comes back, ends with Ctrl-C.

import { Subscriber } from "zeromq";

const [endpoint = "tcp://127.0.0.1:5560", stream] = process.argv.slice(2);
// A daemon that vanished is noticed after 15 s (not by heartbeats: libzmq aborts when this falls behind with them).
const keepalive = { tcpKeepalive: 1, tcpKeepaliveIdle: 5, tcpKeepaliveInterval: 5, tcpKeepaliveCount: 2 };
const socket = new Subscriber({ linger: 0, ...keepalive });
process.on("SIGINT", () => socket.close());
process.stdout.on("error", () => process.exit(0)); // whoever reads this may leave

try {
  socket.connect(endpoint);
} catch (error) {
  console.error(`subscriber: ${endpoint}: ${error.message}; write tcp://HOST:PORT`);
  process.exit(2);
}
// The slash closes the stream's name: without it cam1 would be cam10 as well.
socket.subscribe(stream ? `streamd/${stream}/results` : "streamd/");
for await (const [topic, header] of socket) {
  if (!topic.toString().endsWith("/results")) continue; // events and the daemon's status
  const result = JSON.parse(header.toString());
  const seen = result.objects.map((item) => `${item.class} ${item.score.toFixed(2)}`);
  console.log(`${result.stream} ${result.seq}: ${seen.join(", ") || "-"}`);
}
