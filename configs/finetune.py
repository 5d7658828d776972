r"""Libri2Mix, 8 kHz, from weights that are there already: an official checkpoint, converted, or a run's own.

    python convert_torch_weights.py --input speech_mossformer2_separation_temporal_8k --output models/official
    python train.py --config configs/finetune.py --workdir runs/finetune --config.data.root=/data \
        --config.train.initial_weights=models/official

It needs the model folder and the mixtures in /data/Libri2Mix; for others, change config.data (docs/data.md). The
sizes in config.model must be those of the weights: 16 kHz weights want --config.model.sample_rate=16000, those of
ClearerVoice --config.model.input_level_db=-25 besides.

Published: 21.7 dB SI-SDRi on Libri2Mix (MossFormer2, arXiv 2312.11825), with dynamic mixing. We have not run this
config to its end. Cost: 50,800 mixtures an epoch, by the published cost about 6 days of a V100 in PyTorch.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-2spk", remat="blocks"))
    config.data = ConfigDict({"root": "data", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001)

    def mixtures(split: str) -> ConfigDict:
        options = {name: config.model.get_oneway_ref(name) for name in ("num_sources", "sample_rate")}
        options |= {"layout": "librimix", "root": config.data.get_oneway_ref("root"), "split": split}
        return ConfigDict(options | {"mode": "min", "task": "mix_clean"})

    config.data.train = mixtures("train-360")
    config.data.train.speeds = (95, 100, 105)
    config.data.validation = mixtures("dev")
    config.data.test = mixtures("test")

    # A third of the learning rate from scratch, as ClearerVoice fine-tunes.
    config.train = section(Recipe(epochs=50, lr=5e-5, constant_epochs=5, initial_weights="./models/official"))
    return config
