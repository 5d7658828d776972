"""Parameter counts of the presets, computed from shapes without allocating memory."""

import math

import pytest
from flax import nnx

from mossformer_jax.model import PRESETS, Buffer, ModelConfig, MossFormer2

SIZES = {
    "mossformer2-2spk": 55_735_394,
    "mossformer2-3spk": 55_998_050,
    "mossformer2-2spk-16k": 55_735_394,
    "mossformer2-whamr-2spk": 55_735_394,
    "mossformer2-s-2spk": 37_755_366,
    "mossformer-l-2spk": 42_101_834,
    "mossformer-m-2spk": 25_195_341,
}


def test_every_preset_has_an_expected_size():
    assert PRESETS.keys() == SIZES.keys()


@pytest.mark.medium
@pytest.mark.parametrize("preset", SIZES)
def test_every_preset_has_the_published_number_of_parameters(preset):
    config = ModelConfig.preset(preset)
    network = nnx.eval_shape(lambda: MossFormer2(config, rngs=nnx.Rngs(0)))
    _, parameters, buffers = nnx.split(network, nnx.Param, Buffer)
    sizes = [math.prod(variable.shape) for _, variable in nnx.to_flat_state(parameters)]
    assert sum(sizes) == SIZES[preset]
    # The two frequency tables are stored, but neither trained nor counted.
    tables = {path[-2]: variable.shape for path, variable in nnx.to_flat_state(buffers)}
    assert tables == {"positions": (config.model_channels // 2,), "rotary": (16,)}
