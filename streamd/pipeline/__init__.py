"""The frame's path: decoder thread -> slot -> ring -> worker -> outbox. No file here imports a foreign library.

Read `lane` (the frame), `decoder`, `ring`, `worker`. Beside them `turnstile` (how many decoders are in Python at a
time) and `turns` (results in the order in which their batches were taken).
"""
