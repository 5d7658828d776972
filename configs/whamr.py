"""WHAMR!, 8 kHz, min, two speakers in noise and reverberation: separation with dereverberation, 55.7M parameters.

    mossformer-jax train --config whamr --workdir runs/whamr --config.data.root=/data/whamr

It needs the mixtures in /data/whamr/wav8k. The network decodes the mask net's output directly, like the published
WHAMR! model. A reverberant mixture cannot be remixed from its anechoic sources, so speeds stay at 100 % and there is no
dynamic mixing. The published figure used dynamic mixing with its own room impulse responses.

Published: 17.0 dB SI-SDRi on the test set, with dynamic mixing (MossFormer2, arXiv 2312.11825). We have not run this
config to completion. Cost: as WSJ0-2mix, about 10 days on a V100 in PyTorch.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-whamr-2spk", remat="blocks"))
    config.data = ConfigDict({"root": "data/whamr", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)

    def mixtures(split: str) -> ConfigDict:
        root, sample_rate = config.data.get_oneway_ref("root"), config.model.get_oneway_ref("sample_rate")
        options = {"layout": "whamr", "root": root, "split": split, "sample_rate": sample_rate}
        return ConfigDict(options | {"mode": "min", "task": "mix_both_reverb", "targets": "anechoic"})

    config.data.train = mixtures("tr")
    config.data.train.speeds = (100,)
    config.data.validation = mixtures("cv")
    config.data.test = mixtures("tt")

    config.train = section(Recipe(epochs=200, lr=15e-5, constant_epochs=85))
    return config
