"""What everything else stands on: errors, time, what travels, secrets, threads. No foreign media library."""
