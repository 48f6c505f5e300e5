"""Our own RTSP reader: it knows when a picture is whole, when it arrived, and when something was lost.

In the order of a packet's way: `opening` (which reader, which transport), `target` (what the address says),
`connection` (the socket), `messages` (bytes to answers and interleaved packets), `authentication`,
`description` (SDP), `session` (the conversation), `datagrams` (UDP), `rtp` and `reorder` (packets), `rtcp`
(reports), `nal` and `depacketise` (payloads), `units` (access units), `decoding` (pictures), `source` (all of it,
one attempt). One thread, the stream's decoder thread, does everything.
"""
