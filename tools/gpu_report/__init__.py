"""What the GPU path costs and gains on this machine, as one Markdown table."""
