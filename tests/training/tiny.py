"""A config that has every part of a training, on a network so small that a step takes milliseconds."""

from configs import demo
from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config():
    config = demo.get_config()
    config.model = section(
        ModelConfig(
            encoder_channels=16,
            model_channels=8,
            num_blocks=1,
            group_size=32,
            query_key_channels=8,
            fsmn_channels=8,
            dropout=0.1,
        )
    )
    config.data.seconds = 0.2
    # Three steps per epoch.
    config.data.train.epoch_size = 12
    config.data.train.utterances_per_speaker = 3
    config.data.validation.num_mixtures = 3
    config.data.validation.seconds = 0.4
    config.train = section(
        Recipe(
            steps=32,
            lr=0.3,
            warmup_steps=3,
            constant_epochs=0,
            patience=1,
            accumulation=2,
            ema_decay=0.3,
            validate_every=4,
            checkpoint_every=3,
            log_every=2,
            num_examples=0,  # tests of the journal and of validation draw them
        )
    )
    return config
