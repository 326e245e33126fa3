"""Video: decoding to a grid, scene cuts, and what is refused."""

import sys
import wave

import numpy as np
import pytest
import torch

from unrolled.series.load import load_data
from unrolled.series.video import read_video, scene_cuts

av = pytest.importorskip("av")


def moving_waves(frames: int, angle: float, speed: float, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth plane waves that drift, as (frames, height, width) uint8."""
    time, row, column = np.ogrid[:frames, :height, :width]
    place = (np.cos(angle) * row + np.sin(angle) * column) / 6
    pattern = 128 + 60 * np.sin(place - speed * time) + 40 * np.cos(0.6 * place + 0.7 * speed * time + row / 9)
    return pattern.clip(0, 255).astype(np.uint8)


def write_video(path, pictures: np.ndarray, codec: str = "ffv1", pixels: str = "gray") -> None:
    """Lossless grey unless another codec is asked for, 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:], pixels
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())


def refused(call, *fragments: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize(("suffix", "codec", "pixels"), [("mkv", "ffv1", "gray"), ("mp4", "mpeg4", "yuv420p")])
def test_a_cut_is_found_and_no_window_crosses_it(tmp_path, suffix, codec, pixels):
    scenes = [moving_waves(90, 0.3, 0.2), moving_waves(110, 1.4, 0.15)]
    path = tmp_path / f"film.{suffix}"
    write_video(path, np.concatenate(scenes), codec, pixels)
    data = load_data(path, 16)
    assert data.description["scene_cuts"] == [90] and data.description["segments"] == [90, 110]
    assert data.description["grid"] == [24, 32] and data.description["picture"] == [48, 64]
    assert data.description["sampling_interval"] == "0.04 seconds (mean)"
    assert data.dim == 4 and 0.5 < data.description["explained_variance"] <= 1
    assert abs(float(data.spatial_covariance.trace()) - 4) < 1e-9
    # Of 200 frames the last 40 are held out; a window of 16 starts 75 times in 90 frames and 55 times in the next 70.
    assert data.starts["train"].tolist() == [*range(75), *range(90, 145)]
    assert data.starts["held_out"].tolist() == [*range(160, 185)]
    assert data.sample(5, torch.Generator().manual_seed(0)).shape == (5, 16, 4)
    assert data.gaussian().length == 16


def test_frames_are_area_means_of_the_picture(tmp_path):
    pictures = moving_waves(6, 0.5, 0.3, height=50, width=70)
    write_video(tmp_path / "film.mkv", pictures)
    recording = read_video(tmp_path / "film.mkv", frame_size=7)
    assert recording.facts["grid"] == [5, 7]
    blocks = pictures.reshape(6, 5, 10, 7, 10).mean(axis=(2, 4)).reshape(6, 35)
    assert np.abs(torch.cat(recording.segments).numpy() - blocks).max() < 1e-4  # float32 of numbers up to 255
    # A grid that does not divide the picture: cells of unequal size, and their weighted mean is the picture's.
    uneven = read_video(tmp_path / "film.mkv", frame_size=32)
    assert uneven.facts["grid"] == [23, 32]
    sizes = [np.diff(np.arange(cells + 1) * pixels // cells) for cells, pixels in ((23, 50), (32, 70))]
    mean = torch.cat(uneven.segments).double().numpy() @ np.outer(*sizes).ravel() / (50 * 70)
    assert np.abs(mean - pictures.mean(axis=(1, 2))).max() < 1e-4
    assert read_video(tmp_path / "film.mkv", frame_size=500).facts["grid"] == [50, 70]


def noise(frames: int, size: float) -> np.ndarray:
    return np.random.default_rng(3).normal(0, size, (frames, 24, 32))


def ball(frames: int) -> np.ndarray:
    """A white ball that bounces in a black box: large changes at every frame, none of them a cut."""
    row, column = np.mgrid[:24, :32]
    path = 6 + np.abs((np.arange(frames)[:, None] * [1.3, 1.9] + [0, 5]) % [24, 40] - [12, 20])
    return 255.0 * ((row - path[:, :1, None]) ** 2 + (column - path[:, 1:, None]) ** 2 < 25)


@pytest.mark.parametrize(
    "frames",
    [
        moving_waves(120, 0.3, 0.2, 24, 32),
        moving_waves(120, 0.3, 1.5, 24, 32),
        np.full((60, 24, 32), 90.0),
        100 + noise(60, 5.0),
        ball(200),
        np.linspace(0, 255, 100)[:, None, None] * np.ones((100, 24, 32)),
        np.zeros((1, 24, 32)),
    ],
    ids=["slow", "fast", "still", "noise", "ball", "fade", "one frame"],
)
def test_motion_noise_and_fades_are_no_cuts(frames):
    assert scene_cuts(frames.astype(np.float32)) == []


def test_cuts_are_found_at_the_ends_and_close_together():
    pictures = [50.0, 120.0, 60.0, 200.0]
    lengths = [3, 40, 5, 2]
    frames = np.concatenate([np.full((k, 24, 32), level) for level, k in zip(pictures, lengths, strict=True)])
    assert scene_cuts(frames + noise(50, 2.0)) == [3, 43, 48]
    assert scene_cuts(np.stack([np.zeros((4, 4)), np.full((4, 4), 99.0)])) == [1]


def test_bad_videos_are_refused(tmp_path, monkeypatch):
    good = tmp_path / "good.mkv"
    write_video(good, moving_waves(60, 0.3, 0.2))
    refused(lambda: load_data(good, 40), "length: 40", "60 frames", "201 frames on end")
    refused(lambda: load_data(good, 8, periods=(24.0,)), "periods", "video")
    refused(lambda: load_data(good, 8, frame_size=0), "frame_size: 0")
    refused(lambda: load_data(good, 8, dim=769), "dim: 769", "768 channels")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    refused(lambda: load_data(tmp_path / "noise.mp4", 4), "noise.mp4", "cannot be read as a video")
    write_video(tmp_path / "whole.mp4", moving_waves(60, 0.3, 0.2), "mpeg4", "yuv420p")
    # The index of an mp4 is at its end, so half a file has none.
    (tmp_path / "half.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:4000])
    refused(lambda: load_data(tmp_path / "half.mp4", 4), "half.mp4", "cannot be read as a video")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 800)
    (tmp_path / "sound.wav").rename(tmp_path / "sound.avi")
    refused(lambda: load_data(tmp_path / "sound.avi", 4), "sound.avi", "no video stream")
    (tmp_path / "empty.webm").write_bytes(b"")
    refused(lambda: load_data(tmp_path / "empty.webm", 4), "empty.webm", "it is empty")
    write_video(tmp_path / "still.mkv", np.full((60, 24, 32), 80, dtype=np.uint8))
    refused(lambda: load_data(tmp_path / "still.mkv", 4), "does not vary")
    monkeypatch.setitem(sys.modules, "av", None)
    refused(lambda: load_data(good, 8), "good.mkv", "pip install 'unrolled[video]'")
