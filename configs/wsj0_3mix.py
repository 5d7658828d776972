r"""WSJ0-3mix, 8 kHz, min: MossFormer2 of 56.0M parameters.

    mossformer-jax train --config wsj0_3mix --workdir runs/wsj0_3mix --config.data.root=/data/wsj0-mix
    mossformer-jax train --config wsj0_3mix:dynamic --workdir runs/wsj0_3mix --config.data.root=/data/wsj0-mix \
        --config.data.train.root=/data/wsj0/si_tr_s

The first trains on the mixtures in /data/wsj0-mix/3speakers. The second, as published, draws new ones for every step
from WSJ0's single speakers (si_tr_s/SPEAKER/*.wav), and validates on the stored mixtures.

Published: 22.2 dB SI-SDRi on the test set, with dynamic mixing (MossFormer2, arXiv 2312.11825). We have not run this
config to completion. Published cost: about 10 days on a V100 in PyTorch.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config(dynamic: bool = False) -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-3spk", remat="blocks"))
    config.data = ConfigDict({"root": "data/wsj0-mix", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)

    def options() -> dict:
        return {name: config.model.get_oneway_ref(name) for name in ("num_sources", "sample_rate")}

    def mixtures(split: str) -> ConfigDict:
        root = config.data.get_oneway_ref("root")
        return ConfigDict({"layout": "wsj0mix", "root": root, "split": split, "mode": "min", **options()})

    config.data.train = mixtures("tr")
    if dynamic:
        speech = {"corpus": "folder", "root": "data/wsj0/si_tr_s", "speaker_level": -2, "epoch_size": 20000}
        config.data.train = ConfigDict(speech | options())
    config.data.train.speeds = (95, 100, 105)
    config.data.validation = mixtures("cv")
    config.data.test = mixtures("tt")

    config.train = section(Recipe(epochs=200, lr=15e-5, constant_epochs=85))
    return config
