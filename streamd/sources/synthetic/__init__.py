"""`test:` sources: pictures made on the spot, each with its number drawn in, and faults on a schedule.

    test:                                       640x360, 25 a second
    test:?size=1920x1080&rate=15&gop=30
    test:?stall=10/4&corrupt=20/3&error=60/timeout

Faults are `name=AT/WHAT`, AT in seconds since the source was opened, several of a kind separated by commas:

    stall=AT/SECONDS    nothing comes for so long
    drop=AT/N           N numbers are left out, as by a camera that skips pictures
    burst=AT/N          N pictures are held back and come at once
    corrupt=AT/N        N damaged pictures; the ones after them are not to be trusted up to the next keyframe
    resize=AT/WxH       another size from there on
    clockjump=AT/S      time stamps jump by S seconds, which may be negative
    end=AT              the source ends, as a camera that closes the connection
    error=AT/REASON     it fails for one of the reasons that events have (`auth`, `timeout`, `tls`, ...)

An attempt after `end` or `error` opens the source anew: numbers and the schedule begin again.

The number is drawn as two rows of 16 cells over the picture's width. From 0 to 7/16 of the height it stands in
binary, the highest bit left: white (luma 235) is 1, black (16) is 0; from 7/16 to 14/16 its complement. Below
moves a ramp.
"""
