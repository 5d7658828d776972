"""Separating files into files, with a stand-in for the network."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.audio.streams import AudioWriter
from mossformer_jax.separation import OutputOptions, Separator, separate_file
from mossformer_jax.separation.files import own_subtype
from tests.separation.stand_ins import RATE, KnowingModel


@pytest.fixture
def mixture_path(tmp_path, rng):
    path = tmp_path / "two people.flac"
    write_audio(path, 0.1 * rng.standard_normal((2, 1600)), 16_000)
    return path


@pytest.fixture
def separating_into(tiny_config, rng, tmp_path):
    """Makes a recording, 0.1 s at 8 kHz, and a separator that separates it into the given sources."""

    def make(sources):
        path = tmp_path / "mixture.wav"
        write_audio(path, 0.1 * rng.uniform(-1, 1, 800), RATE)
        model = KnowingModel(tiny_config, read_audio(path)[0][0], sources.astype(np.float32), shuffle=False)
        return Separator(model), path

    return make


def outputs_in(folder, suffix="wav"):
    return [folder / f"{number}.{suffix}" for number in (1, 2)]


def written(separated):
    return np.concatenate([read_audio(path)[0] for path in separated.paths])


def test_sources_are_written_beside_the_mixture_at_its_rate_and_length(mixture_path, tiny_separator):
    separated = separate_file(tiny_separator, mixture_path)
    assert separated.paths == [mixture_path.with_name(f"two people_s{number}.wav") for number in (1, 2)]
    assert (separated.sample_rate, separated.duration, separated.gain) == (16_000, 0.1, 1.0)
    assert separated.boundaries == ()
    expected = tiny_separator(*read_audio(mixture_path)).sources
    np.testing.assert_allclose(written(separated), expected, rtol=0, atol=0.5 / 2**15 + 1e-9)  # 16-bit rounding
    assert read_audio(separated.paths[0])[1] == 16_000


def test_each_channel_can_be_separated_separately(mixture_path, tmp_path, tiny_separator):
    separated = separate_file(tiny_separator, mixture_path, outputs_in(tmp_path), OutputOptions(channels="each"))
    expected = tiny_separator(*read_audio(mixture_path), channels="each").sources
    for path, source in zip(separated.paths, expected, strict=True):
        np.testing.assert_allclose(read_audio(path)[0], source, rtol=0, atol=0.5 / 2**15 + 1e-9)
    mono = tiny_separator(read_audio(mixture_path)[0][:1], 16_000).sources
    np.testing.assert_allclose(expected[:, 0], mono, rtol=0, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sources_that_would_clip_are_turned_down_together(separating_into, tmp_path, suffix):
    sources = np.stack([np.linspace(-2.0, 2.0, 800), np.linspace(-0.5, 0.5, 800)])
    separator, path = separating_into(sources)
    separated = separate_file(separator, path, outputs_in(tmp_path / "new" / "folder", suffix))
    assert separated.gain == pytest.approx(0.99 / 2)
    np.testing.assert_allclose(written(separated), sources * separated.gain, rtol=0, atol=0.5 / 2**15 + 1e-6)


def test_float_files_keep_sources_beyond_full_scale(separating_into, tmp_path):
    sources = np.stack([np.linspace(-2.0, 2.0, 800), np.zeros(800)]).astype(np.float32)
    separator, path = separating_into(sources)
    separated = separate_file(separator, path, outputs_in(tmp_path), OutputOptions(subtype="FLOAT"))
    assert separated.gain == 1.0
    np.testing.assert_array_equal(written(separated), sources)
    assert separated.warnings == ("source 2 is silent: fewer speakers than sources?",)


@pytest.mark.parametrize(
    ("suffix", "subtype", "written_as"),
    [
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("wav", "PCM_32", "FLOAT"),
        ("wav", "FLOAT", "FLOAT"),
        ("wav", "DOUBLE", "FLOAT"),
        ("flac", "PCM_24", "PCM_24"),
        ("flac", "FLOAT", "PCM_24"),
    ],
)
def test_sources_have_the_bit_depth_of_the_recording(separating_into, tmp_path, rng, suffix, subtype, written_as):
    """A recording at -100 dB, whose sources 16 bits would round to one or two steps."""
    sources = 1e-5 * rng.standard_normal((2, 800))
    separator, path = separating_into(sources)
    soundfile.write(path, read_audio(path)[0].T, RATE, subtype=subtype)
    separator.network._model._mixture = read_audio(path)[0][0]
    separated = separate_file(separator, path, outputs_in(tmp_path, suffix))
    assert separated.subtype == written_as
    assert {soundfile.info(output).subtype for output in separated.paths} == {written_as}
    noise = written(separated) - sources
    if written_as != "PCM_16":
        assert np.square(noise).sum() < 1e-4 * np.square(sources).sum()  # 40 dB; 16 bits leave 0 dB
    coarse = [warning for warning in separated.warnings if "steps of PCM_16" in warning]
    assert len(coarse) == (2 if subtype == "PCM_16" else 0)


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_S8", "ULAW", "GSM610", "MPEG_LAYER_III", "VORBIS", "OPUS", "ALAC_16"]
)
def test_sources_of_16_bit_and_coded_recordings_have_16_bits(tmp_path, subtype):
    assert own_subtype(subtype, outputs_in(tmp_path)) == "PCM_16"


def test_a_source_of_a_few_steps_is_reported_by_name(separating_into, tmp_path):
    sources = np.stack([np.full(800, 9.4 / 2**15), np.full(800, 10.6 / 2**15)])
    separator, path = separating_into(sources)
    coarse = "source 1 is so quiet that its peak is 9.4 steps of PCM_16; rounding distorts it"
    found = separate_file(separator, path, outputs_in(tmp_path)).warnings
    (warning,) = (warning for warning in found if "steps" in warning)
    assert warning.startswith(coarse)
    found = separate_file(separator, path, outputs_in(tmp_path), OutputOptions(subtype="PCM_24")).warnings
    assert not any("steps" in warning for warning in found)


def test_an_error_names_the_mixture_once(tmp_path, tiny_separator):
    write_audio(tmp_path / "short.wav", np.full(9, 0.1), 8000)
    with pytest.raises(ValueError, match=r"short\.wav: recording has 9 samples") as raised:
        separate_file(tiny_separator, tmp_path / "short.wav")
    assert "\n" not in str(raised.value)
    write_audio(tmp_path / "broken.wav", np.full(900, 0.1), 8000, "FLOAT")
    data = bytearray((tmp_path / "broken.wav").read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (tmp_path / "broken.wav").write_bytes(data)
    with pytest.raises(ValueError, match=r"broken\.wav: contains NaN") as raised:
        separate_file(tiny_separator, tmp_path / "broken.wav")
    assert str(raised.value).count("broken.wav") == 1


def test_obstacles_to_the_outputs_are_named_before_separating(mixture_path, tmp_path, tiny_config):
    class Model(KnowingModel):
        def compile(self, batch, num_samples):
            raise AssertionError("separated for nothing")

    separator = Separator(Model(tiny_config, np.zeros(1), np.zeros((2, 1))))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"is a file; name a folder"):
        separate_file(separator, mixture_path, outputs_in(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"1 output files are named, but the model has 2 sources"):
        separate_file(separator, mixture_path, [tmp_path / "s1.wav"])


def test_unwritable_outputs_fail_before_separating(mixture_path, tmp_path, tiny_config):
    class Model(KnowingModel):
        def compile(self, batch, num_samples):
            raise AssertionError("separated for nothing")

    separator = Separator(Model(tiny_config, np.zeros(1), np.zeros((2, 1))))
    with pytest.raises(ValueError, match=r"1\.flac: does not support FLOAT"):
        separate_file(
            separator, mixture_path, outputs_in(tmp_path / "new" / "folder", "flac"), OutputOptions(subtype="FLOAT")
        )
    assert list(tmp_path.iterdir()) == [mixture_path]  # no folder is left


def test_no_source_gets_its_name_before_all_are_complete(separating_into, tmp_path, monkeypatch):
    separator, path = separating_into(np.zeros((2, 800)) + 0.1)
    (tmp_path / "1.wav").write_text("an older source")
    close = AudioWriter.close

    def close_first_only(writer):
        if writer.path.name == "2.wav":
            raise ValueError("disk full")
        close(writer)

    monkeypatch.setattr(AudioWriter, "close", close_first_only)
    with pytest.raises(ValueError, match="disk full"):
        separate_file(separator, path, outputs_in(tmp_path))
    assert (tmp_path / "1.wav").read_text() == "an older source"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1.wav", "mixture.wav"]


def test_a_failure_while_writing_leaves_no_file(separating_into, tmp_path):
    separator, path = separating_into(np.zeros((2, 800)) + 0.1)
    (tmp_path / "2.wav").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"2\.wav: not written: it is a folder"):
        separate_file(separator, path, outputs_in(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
