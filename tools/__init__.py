"""Scripts that build what the package ships; nothing here is installed."""
