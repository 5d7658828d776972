"""Dynamic mixing on the device, compared with dynamic mixing on the host."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from mossformer_jax.audio.resampling import resample
from mossformer_jax.data.acoustics import LevelDrift, Reverberation
from mossformer_jax.data.channels import CODECS, Channel, band_limited, coded
from mossformer_jax.data.mixing import PEAK, DynamicMixing
from mossformer_jax.data.on_device import DeviceBatches, acoustics, batches
from mossformer_jax.data.on_device.crops import most_pieces
from mossformer_jax.data.on_device.dice import Dice
from mossformer_jax.data.on_device.mixing import DeviceMixing
from mossformer_jax.data.on_device.recordings import ROW, hold, interpolation_filters, read_at_speed
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.data.utterances import Utterances
from mossformer_jax.sharding import make_mesh

RATE, SAMPLES, DRAWS = 8000, 800, 2000
# Speakers are tones, so that the spectrum of a mixture shows who speaks; the noise is another tone.
TONES_HZ, NOISE_HZ = (500, 800, 1100, 1400, 1700, 2000, 2300), 3000


def write(path: Path, signal, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE, subtype=subtype)


def tone(hertz: float, num_samples: int) -> np.ndarray:
    return 0.2 * np.sin(2 * np.pi * hertz / RATE * np.arange(num_samples))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Speech of seven tones, one utterance in five nearly silent; noise; a room whose responses have one echo each."""
    root = tmp_path_factory.mktemp("folders")
    for speaker, hertz in enumerate(TONES_HZ):
        for number, length in enumerate((500, 700, 1500, 2600, 900)):
            level = 1e-3 if number == 4 else 1.0
            write(root / f"speech/{speaker}/{number}.wav", level * tone(hertz, length))
    write(root / "noise/tone.wav", tone(NOISE_HZ, 600))
    for place in range(3):
        response = np.zeros(400)
        response[[30 + place, 200 + 50 * place]] = 0.5, 0.2
        write(root / f"rooms/room/{place}.wav", response)
    return root


def opened(folders: Path, **options) -> DynamicMixing:
    speech = {"corpus": "folder", "root": str(folders / "speech"), "sample_rate": RATE}
    mixtures = open_training_mixtures(**speech, **options)
    assert isinstance(mixtures, DynamicMixing)
    return mixtures


@pytest.fixture(scope="module")
def drawn(folders) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mixtures and sources drawn on the device and on the host, with every option."""
    mixtures = opened(
        folders,
        fill=True,
        single_share=0.2,
        partial_share=0.3,
        relative_range_db=(-8.0, 8.0),
        noise_share=0.3,
        noise_snr_db=(10.0, 20.0),
        min_level_db=-40.0,
        level_drift={"share": 0.3, "seconds": 0.05},
        reverberation={"root": str(folders / "rooms"), "share": 0.4, "target": "dry"},
        recorded_noise={"root": str(folders / "noise"), "share": 0.4, "snr_db": (-15.0, 5.0)},
        babble={"share": 0.3, "num_speakers": (1, 3), "snr_db": (0.0, 10.0)},
        channel={"share": 0.0, "codecs": ("telephone", "mu-law")},
        max_speaker_seconds=60.0,
    )
    mixing = DeviceMixing(mixtures, SAMPLES, make_mesh())
    draw = jax.jit(jax.vmap(mixing.draw, in_axes=(None, 0)))
    mixture_bt, sources_bct, lengths_b = draw(mixing.held, jax.random.split(jax.random.key(0), DRAWS))
    assert (np.asarray(lengths_b) == SAMPLES).all()
    host = [mixtures.draw(0, SAMPLES, np.random.default_rng((7, number))) for number in range(DRAWS)]
    return {
        "device": (np.asarray(mixture_bt), np.asarray(sources_bct)),
        "host": (np.stack([each.mixed() for each in host]), np.stack([each.sources for each in host])),
    }


def strength(signal_t: np.ndarray, hertz: float) -> np.ndarray:
    """Amplitude at a frequency; all tones have whole numbers of periods in a mixture."""
    return np.abs(signal_t @ np.exp(-2j * np.pi * hertz / RATE * np.arange(SAMPLES))) * 2 / SAMPLES


def statistics(mixture_bt: np.ndarray, sources_bct: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of each mixture."""
    rest_bt = mixture_bt - sources_bct.sum(axis=1)
    power_bc = np.square(sources_bct).mean(axis=2)
    single_b = (power_bc == 0).any(axis=1)
    speakers_bcs = np.stack([strength(sources_bct, hertz) for hertz in TONES_HZ], axis=-1)
    rest_bs = np.stack([strength(rest_bt, hertz) for hertz in TONES_HZ], axis=-1)
    both = ~single_b
    first, second = speakers_bcs.argmax(axis=2).T
    taken_bs = np.eye(len(TONES_HZ), dtype=bool)[first] | np.eye(len(TONES_HZ), dtype=bool)[second]
    loudest_b = np.sqrt(power_bc.max(axis=1))
    noise_b, clean = strength(rest_bt, NOISE_HZ), both & (rest_bt == 0).all(axis=1)
    level_db = 10 * np.log10(np.maximum(power_bc, 1e-12))
    # A speaker of the babble is louder than the leakage of partial and drifting tones.
    voices_b = (~taken_bs & (rest_bs > 0.15 * loudest_b[:, None])).sum(axis=1)
    # Between the tones, only synthetic noise has energy in the median.
    between = np.stack([strength(rest_bt, hertz) for hertz in range(3300, 3900, 20)], axis=-1)
    # Convolution in the frequency domain leaves rounding errors in pauses.
    active_bct = np.abs(sources_bct) > 1e-5
    return {
        "same speaker": (both & (first == second)).astype(float),
        "single": single_b.astype(float),
        "without any rest": clean[both].astype(float),
        "recorded noise": (noise_b > 0.15 * loudest_b).astype(float),
        "hiss": (np.median(between, axis=1) > 2e-3 * loudest_b).astype(float),
        "babble": (voices_b > 0).astype(float),
        "reverberant": ((rest_bs * taken_bs).max(axis=1) > 0.1 * loudest_b).astype(float),
        "first level": level_db[both, 0],
        "level difference": level_db[both, 0] - level_db[both, 1],
        "ratio of the rest to the sources": 5
        * np.log10((np.square(rest_bt).mean(axis=1) / power_bc.sum(axis=1))[both & (rest_bt != 0).any(axis=1)]),
        "overlap": active_bct[both].all(axis=1).mean(axis=1),
        "at the peak": (np.maximum(np.abs(mixture_bt).max(1), np.abs(sources_bct).max((1, 2))) > PEAK - 1e-4) * 1.0,
        "speaker": first.astype(float),
    }


@pytest.mark.slow
def test_the_statistics_are_those_of_the_host(drawn):
    device, host = (statistics(*drawn[where]) for where in ("device", "host"))
    for name, ours in device.items():
        theirs = host[name]
        # Four standard deviations of the difference of two means.
        error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
        assert abs(ours.mean() - theirs.mean()) <= 4 * error + 1e-9, name
        if len(np.unique(theirs)) > 2:
            assert ours.std() == pytest.approx(theirs.std(), rel=0.1), name
    assert device["same speaker"].sum() == 0
    assert 0.1 < device["single"].mean() < 0.3
    assert 0.2 < device["babble"].mean() < 0.4


@pytest.mark.slow
def test_shares_are_those_requested(drawn):
    found = statistics(*drawn["device"])
    # Standard deviations are about 0.011; echoes of silent sources and of faint babble are not detected.
    assert found["single"].mean() == pytest.approx(0.2, abs=0.045)
    assert found["recorded noise"].mean() == pytest.approx(0.4, abs=0.045)
    assert found["hiss"].mean() == pytest.approx(0.3, abs=0.045)


@pytest.mark.slow
def test_no_signal_peaks_above_the_limit(drawn):
    for signal in drawn["device"]:
        assert np.isfinite(signal).all()
        assert np.abs(signal).max() <= PEAK + 1e-6


def test_recordings_are_held_without_a_change(folders):
    speech = Utterances.from_folder(folders / "speech", sample_rate=RATE)
    held = hold(speech, make_mesh())
    order = np.argsort(speech.speakers, kind="stable")
    for number in (0, 3, 4):
        first, length = int(held.row[number]), int(held.length[number])
        samples = np.asarray(held.samples[first : first - -length // ROW + 1]).reshape(-1)[:length]
        np.testing.assert_array_equal(samples * np.asarray(held.scale[number]), speech.read(int(order[number])))


def test_interpolation_at_a_speed_is_resampling(tmp_path, rng):
    smooth = np.convolve(rng.standard_normal(8000), np.hanning(9), "same")
    write(tmp_path / "a/a.wav", smooth / np.abs(smooth).max(), "FLOAT")
    speech = Utterances.from_folder(tmp_path, sample_rate=RATE)
    held, speeds = hold(speech, make_mesh()), (80, 100, 125)
    for number, speed in enumerate(speeds):
        resampled = resample(speech.read(0), RATE * speed, RATE * 100)
        at = jnp.arange(100, 6000)
        ours = read_at_speed(
            held, jnp.asarray(interpolation_filters(speeds)), jnp.zeros_like(at), at * speed, jnp.full_like(at, number)
        )
        error = np.linalg.norm(ours - resampled[100:6000]) / np.linalg.norm(resampled[100:6000])
        assert error < (1e-4 if speed == 100 else 3e-3), speed  # 16 bits; the slope of the two filters


@pytest.mark.medium
def test_the_target_in_a_room_is_aligned_with_the_direct_sound(folders):
    clicks_ct, length = jnp.zeros((2, SAMPLES)).at[:, 100].set(1.0), jnp.asarray(SAMPLES)
    for target in ("dry", "early"):
        rooms = Reverberation(Utterances.from_folder(folders / "rooms", sample_rate=RATE), target=target)
        held = acoustics.hold_rooms(rooms, make_mesh())
        draw = jax.vmap(lambda key, held: acoustics.reverberate(held, 400, clicks_ct, length, Dice(key, 8)), (0, None))
        drawn = jax.jit(draw)(jax.random.split(jax.random.key(0), 5), held)
        for wet_ct, targets_ct in zip(*map(np.asarray, drawn), strict=True):
            assert (np.abs(wet_ct).argmax(axis=1) == 100).all()
            assert (np.abs(targets_ct).argmax(axis=1) == 100).all()
            # The two sources have different responses.
            echoes = sorted(int(np.flatnonzero(np.abs(row) > 1e-3)[-1]) - 100 for row in wet_ct)
            assert len(set(echoes)) == 2
            assert set(echoes) <= {170, 219, 268}
            if target == "dry":
                assert (np.count_nonzero(np.abs(targets_ct) > 1e-3, axis=1) == 1).all()
            np.testing.assert_allclose(wet_ct.max(axis=1), targets_ct.max(axis=1), rtol=1e-5)


@pytest.mark.medium
def test_reverberation_is_that_of_the_host(tmp_path, rng):
    decay = np.exp(-np.arange(500) / 100) * rng.standard_normal(500)
    write(tmp_path / "room/0.wav", decay / np.abs(decay).max())
    rooms = Reverberation(Utterances.from_folder(tmp_path, sample_rate=RATE), early_seconds=0.01)
    sources_ct = 0.1 * rng.standard_normal((2, SAMPLES)).astype(np.float32)
    expected = rooms(sources_ct, np.random.default_rng(0))
    held = acoustics.hold_rooms(rooms, make_mesh())
    found = acoustics.reverberate(held, 500, jnp.asarray(sources_ct), jnp.asarray(SAMPLES), Dice(jax.random.key(0), 8))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.medium
def test_channels_are_those_of_the_host(rng):
    mixture = 0.2 * rng.standard_normal(SAMPLES).astype(np.float32)
    for name in ("telephone", *acoustics.TABLE_CODECS):
        channel = Channel(codecs=(name,))
        codes = acoustics.hold_codes(channel, RATE, make_mesh())
        received = acoustics.transmit(
            channel, codes, jnp.asarray(mixture), jnp.asarray(SAMPLES), RATE, Dice(jax.random.key(0), 8)
        )
        if name == "telephone":
            np.testing.assert_allclose(received, band_limited(mixture, RATE, (300.0, 3400.0)), atol=1e-5)
        else:
            # A sample at the border of two codes may be rounded to either of them.
            expected = coded(mixture, RATE, *CODECS[name][:2])
            assert np.mean(np.asarray(received) != expected) < 0.05
            assert np.linalg.norm(received - expected) < 0.01 * np.linalg.norm(expected)


@pytest.mark.medium
def test_level_drift_stays_within_its_range():
    options = LevelDrift(range_db=6.0, seconds=0.02)
    drifted = acoustics.drift(options, jnp.ones((2, SAMPLES)), jnp.asarray(SAMPLES), RATE, Dice(jax.random.key(1), 64))
    curves_db = 20 * np.log10(np.asarray(drifted))
    assert np.abs(curves_db).max() <= 6.0 + 1e-4
    assert np.abs(np.diff(curves_db)).max() <= 12.0 / 160 * 1.2  # linear between points 160 samples apart
    assert (curves_db.std(axis=1) > 0.5).all()


@pytest.mark.medium
def test_dice_draw_distinct_numbers_outside_those_taken():
    taken = [jnp.asarray(4), jnp.asarray(1)]
    draw = jax.vmap(lambda key: Dice(key, 8).distinct(3, 6, taken))
    numbers = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    assert set(numbers.ravel()) == {0, 2, 3, 5}
    assert all(len(set(row)) == 3 for row in numbers.tolist())
    counts = np.bincount(numbers.ravel(), minlength=6)[[0, 2, 3, 5]]
    assert np.abs(counts - 300).max() < 50  # the standard deviation is 9
    repeated = np.asarray(Dice(jax.random.key(1), 8).distinct(5, 3))  # only three are different
    assert sorted(repeated[:3]) == [0, 1, 2]
    assert set(repeated) == {0, 1, 2}


def test_as_many_utterances_are_joined_as_a_mixture_may_need(folders):
    held = hold(Utterances.from_folder(folders / "speech", sample_rate=RATE), make_mesh())
    assert most_pieces(np.asarray(held.length), held, SAMPLES) == 2  # 500, 700
    assert most_pieces(np.asarray(held.length), held, 2000) == 3  # 500, 700, 900
    assert most_pieces(np.asarray(held.length), held, 10**6) == 5  # all of them


@pytest.fixture(scope="module")
def plain(folders) -> DynamicMixing:
    """The published recipe, with noise at its stored level."""
    return opened(folders, speeds=(95, 100, 105), noise_root=str(folders / "noise"))


def made(mixtures: DynamicMixing, seed: int = 0) -> DeviceBatches:
    return DeviceBatches(mixtures, batch_size=4, num_samples=SAMPLES, seed=seed, mesh=make_mesh())


@pytest.mark.medium
def test_a_batch_depends_only_on_the_seed_and_its_number(plain):
    first, second = made(plain), made(plain)
    expected = [next(first) for _ in range(3)]
    second.set_state({**first.get_state(), "step": 1})
    for batch in expected[1:]:
        for ours, theirs in zip(next(second), batch, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert second.get_state() == first.get_state() == {"step": 3, "seed": 0, "batch_size": 4, "epoch_size": 17}
    assert not np.array_equal(expected[0].mixture, expected[1].mixture)
    assert len({row.tobytes() for row in np.asarray(expected[0].mixture)}) == 4
    with pytest.raises(ValueError, match="saved state has seed=1, but the config has 0"):
        second.set_state({**first.get_state(), "seed": 1})


@pytest.mark.medium
def test_mixtures_are_as_long_as_the_shortest_recording_allows(plain):
    batch = next(made(plain))
    lengths = np.asarray(batch.lengths)
    # The shortest utterance has 500 samples, at 105 %, the noise 600.
    assert lengths.min() >= 476
    assert lengths.max() <= 600
    for row, length in enumerate(lengths.tolist()):
        assert not np.asarray(batch.mixture)[row, length:].any()
        assert np.asarray(batch.sources)[row, :, :length].any(axis=0).all()


@pytest.mark.own_checks
def test_options_that_need_the_host_are_refused_in_one_line(folders, plain, monkeypatch):
    with pytest.raises(ValueError, match=r"use --config.data.train.channel.codecs=telephone,mu-law$"):
        made(opened(folders, channel={"codecs": ("telephone", "gsm", "mu-law", "mp3")}))
    stored = open_training_mixtures(layout="demo", split="train", num_mixtures=2, speeds=(100,))
    with pytest.raises(ValueError, match="a layout of stored mixtures, which stay on the host"):
        made(stored)
    with pytest.raises(ValueError, match="babble needs more speakers than the 7 sources have"):
        made(opened(folders, num_sources=7, babble={"share": 0.1}))
    monkeypatch.setattr(batches, "_free_bytes", lambda: 1000)
    needed = (7 * 6 + 1) * ROW * 2  # rows of 16-bit samples: one for each file, two for the longest
    with pytest.raises(ValueError, match=f"on_device=True needs {needed:,} bytes of device memory .* only 1,000"):
        made(plain)
