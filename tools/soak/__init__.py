"""The soak: a real daemon on real cameras of which some come and go, watched for as long as wanted."""
