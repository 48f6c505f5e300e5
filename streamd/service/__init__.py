"""What a user asks for, made of the parts above: the configuration, the daemon, offline runs and their files."""
