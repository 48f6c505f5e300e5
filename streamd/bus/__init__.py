"""The results on ZeroMQ: what the messages say, who publishes them, and how to read them."""
