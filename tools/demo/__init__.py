"""The drawn street: renderer, clip codec and the small detector trained on it."""
