"""Video as a series: grey frames on a small grid, cut into scenes.

A video of T frames becomes T x (at most 32 x 32) numbers while it is decoded: one full frame is held at a time, and
4 KiB are kept of each, so an hour at 30 frames a second takes 0.4 GiB (twice that for a moment when it is stacked).
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from unrolled.checks import InputError, require_integer
from unrolled.series.preparation import Recording

__all__ = ["VIDEO_SUFFIXES", "read_video", "scene_cuts"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv")
CUT_FLOOR = 10.0
"""Grey levels of 255. A smaller change of the picture is never a cut, however still the rest of the scene is."""
CUT_RATIO = 4.0
"""How many times the usual change around it the change at a cut must be."""
CUT_NEIGHBOURS = 12
"""Changes on each side that say what is usual."""


SHARE_DECODED = 0.98
"""Share of the seconds a Matroska file speaks of that must be there; the last frame may have none of its own."""


def scene_cuts(frames: Float[np.ndarray, "T h w"]) -> list[int]:
    """Frames at which a new scene begins, ascending; frame 0 is not listed.

    With D_k the mean over the grid of the absolute change from frame k-1 to k, in grey levels, frame k begins a scene
    if D_k >= 10 and D_k >= 4 times the median of the 12 changes before and the 12 after it. The median is the usual
    motion of the scene and does not move for a few cuts nearby; the floor keeps noise in a still picture, whose median
    is nearly 0, from being a cut. (The form is that of the adaptive detector of PySceneDetect; the three constants are
    our choice and were tried on synthetic videos only.)

    Limits: dissolves and fades change little per frame and are not found, nor are cuts between pictures that differ
    by less than the floor on the small grid, nor cuts in a scene whose steady motion is a quarter of the cut. A flash,
    or a large object that jumps in a still scene, looks like two cuts: too many cuts cost windows, never mix scenes.
    """
    if len(frames) < 2:
        return []
    change = np.array([np.abs(after - before).mean() for before, after in pairwise(frames)])
    if len(change) == 1:
        usual = np.zeros(1)
    else:
        padded = np.pad(change, CUT_NEIGHBOURS, constant_values=np.nan)
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * CUT_NEIGHBOURS + 1).copy()
        around[:, CUT_NEIGHBOURS] = np.nan  # the change itself has no say in what is usual
        usual = np.nanmedian(around, axis=1)
    return (np.flatnonzero((change >= CUT_FLOOR) & (change >= CUT_RATIO * usual)) + 1).tolist()


def _area_mean(picture: np.ndarray, grid: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Means over the cells of a grid that is no finer than the picture, float32."""
    edges = [np.arange(cells) * pixels // cells for cells, pixels in zip(grid, picture.shape, strict=True)]
    rows = np.add.reduceat(picture, edges[0], axis=0, dtype=np.int64)
    total = np.add.reduceat(rows, edges[1], axis=1)
    sizes = [np.diff(edge, append=pixels) for edge, pixels in zip(edges, picture.shape, strict=True)]
    return (total / np.outer(*sizes)).astype(np.float32)


def _decode(path: Path, frame_size: int, facts: dict) -> Iterator[Float[np.ndarray, "h w"]]:
    """Frames one by one, grey levels 0 to 255, float32; what the container says is written to `facts`."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise InputError(
            f"source: {path.name!r} is a video, and reading one needs PyAV: pip install 'unrolled[video]'"
        ) from None
    count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"source: {path.name!r} has no video stream; accepted: a file with one")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.average_rate:
                facts["sampling_interval"] = f"{float(1 / stream.average_rate):g} seconds (mean)"
            width, height, end = 0, 0, 0.0
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise InputError(f"source: {path.name!r} is damaged at frame {count}; accepted: an intact video")
                if count == 0:
                    width, height = frame.width, frame.height
                    facts["picture"] = [height, width]
                # Also brings later frames of another size to that of the first.
                picture = frame.reformat(width=width, height=height, format="gray").to_ndarray()
                shrink = min(1.0, frame_size / max(picture.shape))
                count += 1
                end = (frame.time or 0.0) + float(frame.duration * (frame.time_base or 0))
                yield _area_mean(picture, (max(1, round(height * shrink)), max(1, round(width * shrink))))
            # What a file says of its own length, where that is the length of what can be decoded: MP4 has edit lists.
            said = (container.duration or 0) / av.time_base if container.format.name.startswith("matroska") else 0.0
            alone = len(container.streams) == 1
            if (container.format.name == "avi" and count < stream.frames) or (alone and end < SHARE_DECODED * said):
                raise InputError(f"source: {path.name!r} ends early, after {count} frames; accepted: an intact video")
    except FFmpegError as error:
        reason = error.strerror or type(error).__name__
        where = f"stops being readable after {count} frames" if count else "cannot be read as a video"
        raise InputError(f"source: {path.name!r} {where} ({reason}); accepted: an intact video file") from None


def read_video(path: Path, frame_size: int = 32) -> Recording:
    """A video as scenes of grey frames, whose channels are the cells of a grid, row by row, float32.

    Each frame is averaged over the cells of a grid whose longer side has `frame_size` cells (fewer if the picture is
    smaller), the shorter side keeping the aspect. Frames count as equally spaced in time, as they are decoded; scenes
    are separated at `scene_cuts`. Frames that are missing at the end are noticed
    in AVI, in Matroska with one stream, and where a file ends within a frame; other damage that the decoder conceals is
    not.

    Raises:
        InputError: PyAV is missing, `frame_size` is not an integer >= 1, or the file is not an intact video.
    """
    require_integer("frame_size", frame_size)
    facts: dict = {}
    decoded = list(_decode(path, frame_size, facts))
    if not decoded:
        raise InputError(f"source: {path.name!r} has no video frame that can be decoded; accepted: a video with some")
    frames = np.stack(decoded)
    cuts = scene_cuts(frames)
    rows, columns = frames.shape[1:]
    facts |= {"grid": [rows, columns], "scene_cuts": cuts}
    bounds = [0, *cuts, len(frames)]
    return Recording(
        [torch.from_numpy(frames[begin:end].reshape(end - begin, -1)) for begin, end in pairwise(bounds)],
        [torch.arange(begin, end) for begin, end in pairwise(bounds)],
        [f"pixel {row},{column}" for row in range(rows) for column in range(columns)],
        facts,
        is_video=True,
    )
