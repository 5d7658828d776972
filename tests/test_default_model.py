"""The size of the default model, and its separation quality as stated in the model card."""

import dataclasses

import numpy as np
import pytest

from mossformer_jax import Separator, pit_si_sdr, read_audio, si_sdr
from mossformer_jax.weights import count_parameters
from mossformer_jax.weights.loaded import LoadedModel
from mossformer_jax.weights.store import DEFAULT_MODEL, load_parameters
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("fully_optimized")

# Mean SI-SDR improvement in dB, as in MODEL_CARD.md, with a tolerance of 0.1 dB for rounding on other machines.
RECORDED_ON_REAL_MIXTURES = 7.73
RECORDED_ON_THE_EXAMPLE = 10.29
RECORDED_ON_EXAMPLES = {"mixture.wav": RECORDED_ON_THE_EXAMPLE, "noisy.wav": 7.88, "synthetic/mixture.wav": 9.78}
MARGIN = 0.1
# Largest change by bfloat16 in dB, as in docs/separation.md.
BFLOAT16_MARGIN = 0.1
# Largest level error of a talker in dB. With one factor for both outputs, one talker was at -15 dB.
LEVEL_MARGIN = 3.0


@pytest.fixture(scope="module")
def separator():
    return Separator.from_pretrained("default")


@pytest.fixture(scope="module")
def bfloat16_separator():
    """The same weights with bfloat16 computation."""
    config, parameters = load_parameters("default")
    return Separator(LoadedModel(dataclasses.replace(config, dtype="bfloat16"), parameters))


def separated(separator, mixture_path, reference_paths):
    """A mixture, its true sources and the separated sources, each (channels, samples)."""
    mixture, sample_rate = read_audio(mixture_path)
    references = np.concatenate([read_audio(path)[0] for path in reference_paths])
    return mixture, references, separator(mixture, sample_rate).sources


def separated_example(separator, name):
    """`separated`, of a mixture in examples/ whose sources are beside it."""
    path = REPOSITORY / "examples" / name
    return separated(separator, path, [path.with_name(f"source{k}.wav") for k in (1, 2)])


def improvement(mixture, references, sources):
    """SI-SDR improvement in dB, averaged over the sources with the best permutation."""
    score = float(pit_si_sdr(sources[None], references[None])[0][0])
    return score - float(si_sdr(mixture, references).mean())


def talker_levels_db(mixture, references, sources):
    """Level of the talker in each output in dB, relative to their level in the mixture."""
    permutation = np.asarray(pit_si_sdr(sources[None], references[None])[1][0])
    # Not relative to the references, because those of the Libri2Mix samples are louder than in the mixture.
    in_output, in_mixture = (np.abs(np.sum(x * references, axis=1)) for x in (sources[permutation], mixture))
    return 20 * np.log10(in_output / in_mixture)[np.argsort(permutation)]


def test_the_default_model_is_small(separator):
    config = separator.config
    assert (config.num_sources, config.sample_rate) == (2, 8000)
    assert count_parameters(config) <= 3_000_000
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.iterdir()) <= 8_000_000


@pytest.mark.medium
@pytest.mark.parametrize("name", RECORDED_ON_EXAMPLES)
def test_the_default_model_separates_the_examples_as_recorded(separator, name):
    assert improvement(*separated_example(separator, name)) >= RECORDED_ON_EXAMPLES[name] - MARGIN


@pytest.mark.parametrize("name", ["mixture.wav", "synthetic/mixture.wav"])
def test_both_talkers_of_the_examples_keep_their_levels(separator, name):
    assert np.abs(talker_levels_db(*separated_example(separator, name))).max() < LEVEL_MARGIN


@pytest.mark.parametrize("name", [*RECORDED_ON_EXAMPLES, "synthetic/two_men/mixture.wav"])
def test_the_shipped_separated_examples_equal_the_output_of_the_default_model(separator, name):
    path = REPOSITORY / "examples" / name
    sources = separator(*read_audio(path)).sources
    files = [path.parent / "separated" / f"{path.stem}_s{k}.wav" for k in (1, 2)]
    shipped = np.concatenate([read_audio(file)[0] for file in files])
    # Rounding on other machines, and to 16 bits.
    assert si_sdr(sources, shipped).min() > 40.0


@pytest.mark.medium
def test_bfloat16_separates_the_example_as_well_as_float32(separator, bfloat16_separator):
    name = "synthetic/mixture.wav"
    gains = [improvement(*separated_example(each, name)) for each in (bfloat16_separator, separator)]
    difference = gains[0] - gains[1]
    assert abs(difference) < BFLOAT16_MARGIN
    assert difference != 0.0, "this was float32"


@pytest.mark.slow
def test_the_default_model_separates_real_mixtures_as_recorded(separator, bfloat16_separator, libri2mix_samples):
    files = [
        (
            libri2mix_samples / f"item{item}_mix.wav",
            [libri2mix_samples / f"item{item}_source{k}.wav" for k in (1, 2)],
        )
        for item in (2, 7, 12, 19, 25, 33)
    ]
    in_float32, in_bfloat16 = (
        [separated(each, *of_one) for of_one in files] for each in (separator, bfloat16_separator)
    )
    levels = np.median([talker_levels_db(*of_one) for of_one in in_float32], axis=0)
    assert np.abs(levels).max() < LEVEL_MARGIN
    gain = np.mean([improvement(*of_one) for of_one in in_float32])
    assert gain >= RECORDED_ON_REAL_MIXTURES - MARGIN
    assert abs(np.mean([improvement(*of_one) for of_one in in_bfloat16]) - gain) < BFLOAT16_MARGIN
