"""What this box can do: one clip through the whole path, cameras until it is full, and the loop that others write.

Read `meter` (what is counted), then `passes` (one clip), `trial` and `capacity` (cameras), `comparison`.
"""
