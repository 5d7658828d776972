r"""WHAM!, 8 kHz, min, two speakers in noise: MossFormer2 of 55.7M parameters.

    mossformer-jax train --config wham --workdir runs/wham --config.data.root=/data/wham
    mossformer-jax train --config wham:dynamic --workdir runs/wham --config.data.root=/data/wham \
        --config.data.train.root=/data/wsj0/si_tr_s

The first trains on the mixtures in /data/wham/wav8k. The second, as published, draws new ones for every step from
WSJ0's single speakers (si_tr_s/SPEAKER/*.wav) and the noise in /data/wham/wav8k/min/tr/noise, and validates on
the stored mixtures.

Published: 18.1 dB SI-SDRi on the test set, with dynamic mixing (MossFormer2, arXiv 2312.11825). We have not run this
config to completion. Cost: as WSJ0-2mix, about 10 days on a V100 in PyTorch.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config(dynamic: bool = False) -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-2spk", remat="blocks"))
    config.data = ConfigDict({"root": "data/wham", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)

    def mixtures(split: str) -> ConfigDict:
        root, sample_rate = config.data.get_oneway_ref("root"), config.model.get_oneway_ref("sample_rate")
        options = {"layout": "wham", "root": root, "split": split, "sample_rate": sample_rate}
        return ConfigDict(options | {"mode": "min", "task": "mix_both"})

    config.data.train = mixtures("tr")
    if dynamic:
        config.data.train = ConfigDict(
            {
                "corpus": "folder",
                "root": "data/wsj0/si_tr_s",
                "speaker_level": -2,
                "noise_root": config.data.get_oneway_ref("root") + "/wav8k/min/tr/noise",
                "sample_rate": config.model.get_oneway_ref("sample_rate"),
                "num_sources": config.model.get_oneway_ref("num_sources"),
                "epoch_size": 20000,
            }
        )
    config.data.train.speeds = (95, 100, 105)
    config.data.validation = mixtures("cv")
    config.data.test = mixtures("tt")

    config.train = section(Recipe(epochs=200, lr=15e-5, constant_epochs=65))
    return config
