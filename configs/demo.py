"""Two synthetic voices, 8 kHz: trains a small network from scratch on any machine in minutes, without a download.

    mossformer-jax train --config demo --workdir runs/demo

New mixtures are drawn for every step from two voices that a small synthesiser generates in seconds; validation and test
use fixed mixtures of other utterances of the same voices. This tests the pipeline, not the model: nobody publishes
figures on these voices. Expect a validation SI-SDRi above 5 dB within 10 minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = section(
        ModelConfig(
            encoder_channels=128,
            model_channels=128,
            num_blocks=2,
            kernel_size=32,
            stride=16,
            group_size=128,
            query_key_channels=64,
            fsmn_channels=128,
            dropout=0.0,
        )
    )

    config.data = ConfigDict()
    config.data.batch_size = 4
    config.data.seconds = 1.5
    config.data.seed = 0
    # Threads are enough for these batches: no audio is decoded.
    config.data.num_workers = 0
    config.data.max_failed_share = 0.0
    config.data.on_device = False
    # Arguments of open_training_mixtures.
    config.data.train = ConfigDict(
        {
            "corpus": "demo",
            "split": "train",
            "num_speakers": 2,
            "speeds": (95, 100, 105),
            "epoch_size": 800,
        }
    )
    # Arguments of open_mixtures.
    config.data.validation = ConfigDict({"layout": "demo", "split": "dev", "num_mixtures": 32})
    config.data.test = ConfigDict({"layout": "demo", "split": "test", "num_mixtures": 64})

    config.train = section(
        Recipe(
            steps=450,
            lr=1e-3,
            warmup_steps=50,
            constant_epochs=100,
            decay_steps=150,
            validate_every=150,
            log_every=20,
        )
    )
    return config
