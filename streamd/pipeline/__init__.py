"""The frame's path: decoder thread -> slot -> ring -> worker -> outbox. No file here imports a foreign library."""
