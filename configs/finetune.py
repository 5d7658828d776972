r"""Libri2Mix, 8 kHz, starting from existing weights: a converted official checkpoint or the weights of a run.

    mossformer-jax convert --input speech_mossformer2_separation_temporal_8k --output models/official
    mossformer-jax train --config finetune --workdir runs/finetune --config.data.root=/data \
        --config.train.initial_weights=models/official

It needs the model folder and the mixtures in /data/Libri2Mix; for other data, change config.data (docs/data.md). The
model has the sizes, sample rate and input level of the weights. For another number of sources, override it and take the
other parameters from the weights: --config.model.num_sources=3 --config.train.partial=true.

Published: 21.7 dB SI-SDRi on Libri2Mix (MossFormer2, arXiv 2312.11825), with dynamic mixing. We have not run this
config to completion. Cost: 50,800 mixtures per epoch; by the published cost, about 6 days on a V100 in PyTorch.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-2spk", remat="blocks"))
    config.data = ConfigDict({"root": "data", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)

    def mixtures(split: str) -> ConfigDict:
        options = {name: config.model.get_oneway_ref(name) for name in ("num_sources", "sample_rate")}
        options |= {"layout": "librimix", "root": config.data.get_oneway_ref("root"), "split": split}
        return ConfigDict(options | {"mode": "min", "task": "mix_clean"})

    config.data.train = mixtures("train-360")
    config.data.train.speeds = (95, 100, 105)
    config.data.validation = mixtures("dev")
    config.data.test = mixtures("test")

    # A third of the learning rate used from scratch, as in ClearerVoice's fine-tuning.
    config.train = section(Recipe(epochs=50, lr=5e-5, constant_epochs=5, initial_weights="./models/official"))
    return config
