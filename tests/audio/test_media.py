"""Video and phone files, read with PyAV."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import AudioReader, read_audio, write_audio
from mossformer_jax.audio.errors import DamagedAudioError, NotAudioError
from mossformer_jax.cli import main
from mossformer_jax.separation import Separator, separate_file

av = pytest.importorskip("av")


def tones(num_samples: int, rate: int, num_channels: int = 1) -> np.ndarray:
    """A tone of another frequency in each channel."""
    times = np.arange(num_samples) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * 200 * (number + 1) * times) for number in range(num_channels)])


def write_media(path: Path, codec: str, tracks: list[np.ndarray], rate: int, *, video: bool = False) -> Path:
    """Writes audio tracks (channels, t), and a picture track if asked."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w") as container:
        streams = [
            container.add_stream(codec, rate=rate, layout="stereo" if len(track) == 2 else "mono") for track in tracks
        ]
        for stream in streams:
            if codec == "aac":
                stream.bit_rate = 128_000  # the default depends on the version of FFmpeg and is near -30 dB
        pictures = container.add_stream("mpeg4", rate=25) if video else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        for stream, track in zip(streams, tracks, strict=True):
            layout = stream.codec_context.layout.name
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(track, np.float32), "fltp", layout)
            frame.sample_rate, frame.pts = rate, 0
            stored, queue = av.AudioResampler(stream.codec_context.format, layout, rate), av.AudioFifo()
            for piece in stored.resample(frame):
                queue.write(piece)
            while (piece := queue.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        if pictures is not None:
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            image.pts = 0
            container.mux(pictures.encode(image))
            container.mux(pictures.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate", "num_channels", "worst_db"),
    [
        ("memo.m4a", "aac", 44100, 1, -60),
        ("call.mp4", "aac", 48000, 2, -10),
        ("meeting.webm", "libopus", 48000, 2, -10),
        ("meeting.mka", "libopus", 48000, 1, -10),
        ("phone.amr", "libopencore_amrnb", 8000, 1, -3),
    ],
)
def test_phone_and_video_files_are_read_at_their_rate_with_their_channels(
    tmp_path, name, codec, rate, num_channels, worst_db
):
    expected = tones(rate, rate, num_channels)
    path = write_media(tmp_path / name, codec, [expected], rate, video=name.endswith(".mp4"))
    waveform, found = read_audio(path)
    assert (found, len(waveform)) == (rate, num_channels)
    assert abs(waveform.shape[1] - rate) <= 2048 + rate // 20
    # Compared at the best shift, because decoders differ in how they treat the encoder's delay.
    middle = expected[:, rate // 4 : rate // 2]
    shifts = range(-400, 401)
    errors = [
        np.mean((waveform[:, rate // 4 + shift : rate // 2 + shift] - middle) ** 2) / np.mean(middle**2)
        for shift in shifts
    ]
    assert 10 * np.log10(min(errors)) < worst_db


@pytest.mark.parametrize(
    ("name", "codec", "subtype"),
    [
        ("a.mov", "pcm_s16le", "PCM_S16LE"),
        ("a.mka", "pcm_s24le", "PCM_24"),
        ("a.mka", "pcm_f32le", "FLOAT"),
        ("a.m4a", "alac", "ALAC"),
    ],
)
def test_lossless_tracks_are_exact_and_keep_their_depth(tmp_path, name, codec, subtype):
    expected = np.round(tones(5000, 16000, 2) * 2**15) / 2**15
    path = write_media(tmp_path / name, codec, [expected], 16000)
    with AudioReader(path) as reader:
        waveform = np.concatenate(list(reader.blocks(999)), axis=1)
        assert (reader.sample_rate, reader.num_channels, reader.warning) == (16000, 2, None)
        if codec != "alac":  # whose encoder takes 16 or 24 bits
            assert reader.subtype == subtype
    np.testing.assert_array_equal(waveform, expected.astype(np.float32))


def test_a_track_is_chosen_by_its_number(tmp_path):
    tracks = [tones(4000, 16000), tones(4000, 16000, 2)]
    path = write_media(tmp_path / "two.mka", "pcm_s16le", tracks, 16000)
    for number, track in enumerate(tracks, start=1):
        with AudioReader(path, number) as reader:
            np.testing.assert_allclose(next(reader.blocks(4000)), track, atol=2**-15)
    with pytest.raises(NotAudioError, match=r"has no audio track 3; choose --track from: 1 \(pcm_s16le\), 2 \("):
        AudioReader(path, 3)
    write_audio(tmp_path / "a.wav", tracks[0], 16000)
    with pytest.raises(NotAudioError, match="has no audio track 2, only 1; omit --track"):
        AudioReader(tmp_path / "a.wav", 2)


def test_blocks_do_not_depend_on_their_size_and_can_be_read_twice(tmp_path):
    path = write_media(tmp_path / "a.m4a", "aac", [tones(20000, 16000)], 16000)
    whole, _ = read_audio(path)
    with AudioReader(path) as reader:
        for size in (777, 5000, 10**6):
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(size)), axis=1), whole)


def test_bytes_and_open_files_are_read(tmp_path):
    path = write_media(tmp_path / "a.m4a", "aac", [tones(8000, 16000)], 16000)
    content = path.read_bytes()
    expected, _ = read_audio(path)
    for source in (content, io.BytesIO(content)):
        np.testing.assert_array_equal(read_audio(source)[0], expected)


def test_a_recording_without_an_index_is_an_error(tmp_path):
    """A phone writes the index when the recording ends."""
    path = write_media(tmp_path / "a.m4a", "aac", [tones(80000, 16000)], 16000)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(NotAudioError, match=r"cannot be read as audio or video.*if it is incomplete") as raised:
        AudioReader(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_damaged_recording_is_an_error_that_names_the_sample(tmp_path):
    path = write_media(tmp_path / "a.m4a", "aac", [tones(160000, 16000)], 16000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(range(250)) * 8
    path.write_bytes(content)
    with pytest.raises(DamagedAudioError, match=r"cannot be read beyond sample [1-9]"):
        read_audio(path)


def test_a_recording_that_is_cut_short_is_reported(tmp_path):
    path = write_media(tmp_path / "a.mka", "pcm_s16le", [tones(64000, 16000)], 16000)
    path.write_bytes(path.read_bytes()[:60000])
    with AudioReader(path) as reader:
        num_samples = sum(block.shape[1] for block in reader.blocks(5000))
        assert 20000 < num_samples < 40000
        assert "seems to be cut short" in reader.warning


def test_a_video_without_sound_is_an_error(tmp_path):
    path = write_media(tmp_path / "silent.mp4", "aac", [], 16000, video=True)
    with pytest.raises(NotAudioError, match=r"silent.mp4: contains no audio track, only video; give the file with"):
        AudioReader(path)


@pytest.mark.parametrize("content", [b"#EXTM3U\n#EXTINF:1,\na.wav\n", b"ffconcat version 1.0\nfile a.wav\n"])
def test_lists_of_other_files_are_not_followed(tmp_path, content):
    write_audio(tmp_path / "a.wav", tones(8000, 16000), 16000)
    for name in ("a.mp4", "a.m3u8"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NotAudioError, match="cannot be read as audio"):
            AudioReader(tmp_path / name)


def test_names_that_look_like_addresses_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "a.m4a", "aac", [tones(8000, 16000)], 16000).rename("pipe:0.m4a")
    assert read_audio("pipe:0.m4a")[1] == 16000


def test_without_pyav_the_error_names_the_extra(tmp_path, monkeypatch):
    path = write_media(tmp_path / "a.m4a", "aac", [tones(8000, 16000)], 16000)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        NotAudioError, match=r"it is MP4 audio or video \(AAC\)\); run: pip install 'mossformer-jax\[video\]'"
    ):
        AudioReader(path)


def test_a_video_is_separated_with_its_rate_and_length(tmp_path, tiny_separator):
    path = write_media(tmp_path / "a.mov", "pcm_s16le", [tones(800, 8000), tones(800, 8000, 2)], 8000, video=True)
    separated = separate_file(tiny_separator, path)
    assert [output.name for output in separated.paths] == ["a_s1.wav", "a_s2.wav"]
    info = soundfile.info(separated.paths[0])
    assert (info.samplerate, info.frames, info.subtype) == (8000, 800, "PCM_16")


def test_the_command_takes_folders_of_videos_and_a_track(tmp_path, tiny_separator, monkeypatch, capsys):
    monkeypatch.setattr(Separator, "from_pretrained", lambda model, **keywords: tiny_separator)
    (tmp_path / "in").mkdir()
    tracks = [tones(800, 8000), tones(800, 8000, 2)]
    write_media(tmp_path / "in" / "two.mka", "pcm_s16le", tracks, 8000)
    options = ["-o", str(tmp_path / "out"), "--no-compile-cache", "--device", "cpu"]
    assert main(["separate", str(tmp_path / "in"), *options, "--track", "2", "--channels", "each"]) == 0
    assert soundfile.info(tmp_path / "out" / "two_s1.wav").channels == 2
    capsys.readouterr()
    assert main(["separate", str(tmp_path / "in"), *options, "--track", "3", "--overwrite"]) == 1
    assert "has no audio track 3" in capsys.readouterr().err


def test_videos_are_scored_with_their_true_length(tmp_path):
    folders = [tmp_path / name for name in ("mixtures", "references", "estimates")]
    signals = [0.3 * np.sin(frequency * np.arange(8000) / 3)[None] for frequency in (1.0, 1.7)]
    for folder in folders:
        folder.mkdir()
        for name, signal in zip(["a_s1.m4a", "a_s2.m4a"], signals, strict=True):
            if folder.name != "mixtures":
                write_media(folder / name, "aac", [signal], 8000)
    write_media(tmp_path / "mixtures" / "a.m4a", "aac", [signals[0] + signals[1]], 8000)
    options = ["--mixture", folders[0] / "a.m4a"]
    for option, folder in zip(["--reference", "--estimate"], folders[1:], strict=True):
        options += [option, folder / "a_s1.m4a", folder / "a_s2.m4a"]
    assert main(["score", *map(str, options), "--metrics", "si_sdr"]) == 0
