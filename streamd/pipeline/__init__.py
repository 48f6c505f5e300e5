"""The frame's path: decoder thread -> slot -> ring -> worker -> outbox. No file here imports a foreign library.

Read `lane` (the frame), `decoder`, `ring`, `worker`. Beside them `turnstile` (how many decoders are in Python at a
time), `shifts` (how many decode files that are read as fast as they go) and `turns` (results in the order in which
their batches were taken).
"""
