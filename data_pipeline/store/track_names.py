"""What the names of signal tracks say: which assays a track needs, and which group of context it belongs to."""

from __future__ import annotations

import re

_NEEDS = re.compile(r" \[(?P<assays>[^\]]+)\]$")
_PLACE = re.compile(r" \((?:enhancer|promoter|window)\)$")


def assays_of(track: str) -> tuple[str, ...]:
    """The assays without which a track cannot be known; none for what is known of every line.

    Tracks are `enhancer:H3K27ac`, `pair:CTCF (window)`, `context:activity/abc [DNase+H3K27ac]`, `landscape:CTCF` and
    `landscape:TSS`, which comes from the annotation.
    """
    owner, _, name = track.partition(":")
    if owner == "context":
        needs = _NEEDS.search(name)
        return tuple(needs["assays"].split("+")) if needs else ()
    if track == "landscape:TSS":
        return ()
    return (_PLACE.sub("", name),)


def group_of(track: str) -> str:
    """What a track is left out with: its group of context, or whose signal it is."""
    owner, _, name = track.partition(":")
    return name.partition("/")[0] if owner == "context" else owner
