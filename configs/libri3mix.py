"""Libri3Mix, 8 kHz, min, clean: MossFormer2 of 56.0M parameters.

    mossformer-jax train --config libri3mix --workdir runs/libri3mix --config.data.root=/data
    mossformer-jax train --config libri3mix:librispeech --workdir runs/libri3mix --config.data.root=/data
    mossformer-jax train --config libri3mix:dynamic --workdir runs/libri3mix --config.data.root=/data

The first trains on generated mixtures in /data/Libri3Mix. The second mixes the same mixtures during training instead:
it needs /data/LibriSpeech (train-clean-360, dev-clean, test-clean) and LibriMix's /data/metadata. The third draws new
mixtures from LibriSpeech for every step, and validates like the second.

Published: no figure for MossFormer2 on Libri3Mix. We have not run this config to completion. Cost: 33,900 mixtures per
epoch; by the published cost on WSJ0-2mix (10 days on a V100 for 200 epochs of 20,000), about 10 days on a V100.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config(librispeech: bool = False, dynamic: bool = False) -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-3spk", remat="blocks"))
    config.data = ConfigDict({"root": "data", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)

    def mixtures(split: str, subset: str) -> ConfigDict:
        root = config.data.get_oneway_ref("root")
        options = {"sample_rate": config.model.get_oneway_ref("sample_rate"), "mode": "min", "task": "mix_clean"}
        if not (librispeech or dynamic):
            num_sources = config.model.get_oneway_ref("num_sources")
            return ConfigDict(
                {"layout": "librimix", "root": root, "split": split, "num_sources": num_sources, **options}
            )
        metadata = root + f"/metadata/Libri3Mix/libri3mix_{subset}.csv"
        noise = root + "/wham_noise"  # used only by tasks other than mix_clean
        return ConfigDict(
            {"layout": "librispeech_mix", "librispeech": root, "metadata": metadata, "noise": noise, **options}
        )

    if dynamic:
        config.data.train = ConfigDict(
            {
                "corpus": "librispeech",
                "root": config.data.get_oneway_ref("root"),
                "splits": ("train-clean-360",),
                "sample_rate": config.model.get_oneway_ref("sample_rate"),
                "num_sources": config.model.get_oneway_ref("num_sources"),
                "epoch_size": 33900,
            }
        )
    else:
        config.data.train = mixtures("train-360", "train-clean-360")
    config.data.train.speeds = (95, 100, 105)
    config.data.validation = mixtures("dev", "dev-clean")
    config.data.test = mixtures("test", "test-clean")

    # The learning rate is constant for about as many steps as the 85 epochs of WSJ0-2mix have.
    config.train = section(Recipe(epochs=120, lr=15e-5, constant_epochs=50))
    return config
