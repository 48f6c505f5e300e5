"""Sources read by FFmpeg's libraries through PyAV; the only package that imports `av`.

files, network, devices: open one, with the options of its kind (`options`).
reading: an opened container becomes pictures. planes: a frame becomes plane views. ending: was it all there?
faults: PyAV's errors become SourceError. chatter: what libav would print.
"""
