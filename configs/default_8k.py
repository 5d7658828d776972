r"""The default model: two talkers, 8 kHz, a MossFormer2 of 1.6M parameters for training and running on two CPU cores.

    python tools/make_heldout.py --data /data/speech8k --output /data/heldout
    mossformer-jax train --config default_8k:first --workdir runs/first --config.data.root=/data
    mossformer-jax train --config default_8k --workdir runs/default_8k --config.data.root=/data \
        --config.train.initial_weights=runs/first/last

/data/speech8k holds a manifest.csv with the columns path, speaker, speaker_known, split (train or dev) and n_samples,
and the mono 8 kHz files that it lists. The first command writes the mixtures of configs/default_8k_heldout.csv, whose
speakers are in no training file: 200 for testing and 60 others for validation.

The second command starts with the hardest case, two equally loud talkers who speak all the time. With easier mixtures
included from the start, the network first learns only to follow who is speaking and who is louder. The third continues
with mixtures as varied as recordings: one talker alone, partial overlap, different levels, a little noise.

To continue from the shipped weights: --config.train.initial_weights=default and another --workdir.

Expect the results of docs/default_model.md. We have not run this config until it stopped improving; nobody publishes
figures on these mixtures.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config(first: bool = False) -> ConfigDict:
    config = ConfigDict()
    config.model = section(
        ModelConfig(
            sample_rate=8000,
            encoder_channels=256,
            model_channels=128,
            num_blocks=6,
            kernel_size=64,
            stride=32,
            group_size=64,
            query_key_channels=64,
            fsmn_channels=128,
            dropout=0.0,
            remat="blocks",  # on a CPU at least as fast as keeping more
            # Level of the parts above the mean power, so that long pauses do not change it.
            input_level_db=-19.0,
        )
    )

    config.data = ConfigDict({"root": "data", "batch_size": 2, "seconds": 2.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.0)
    root, sample_rate = config.data.get_oneway_ref("root"), config.model.get_oneway_ref("sample_rate")
    config.data.train = ConfigDict(
        {
            "corpus": "manifest",
            "path": root + "/speech8k/manifest.csv",
            "split": "train",
            "sample_rate": sample_rate,
            "num_sources": config.model.get_oneway_ref("num_sources"),
            # A voice at another speed counts as another speaker; the data have few speakers.
            "speeds": tuple(range(80, 126, 5)),
            "epoch_size": 4000,
            # Most speakers have one or two clips, a few have a hundred.
            "max_speaker_seconds": 60.0,
            "min_level_db": -45.0,
            "fill": True,
        }
    )
    if first:
        config.data.train.update({"relative_range_db": (-2.5, 2.5)})
    else:
        config.data.train.update(
            {
                "single_share": 0.1,
                "partial_share": 0.2,
                "relative_range_db": (-10.0, 10.0),
                "noise_share": 0.3,
                "noise_snr_db": (20.0, 50.0),
            }
        )
    for part, folder in (("validation", "heldout/validation"), ("test", "heldout")):
        path = root + f"/{folder}/mixtures.csv"
        config.data[part] = ConfigDict({"layout": "csv", "path": path, "sample_rate": sample_rate})

    config.train = section(
        Recipe(
            steps=4000 if first else 20000,
            lr=5e-4,
            warmup_steps=500,
            constant_epochs=10000,  # no plateau schedule: the final decay does the same, less noisily
            decay_steps=0 if first else 5000,
            ema_decay=0.999,
            initial_filterbank="sinusoids",
            validate_every=2000,
            checkpoint_every=500,
            log_every=100,
        )
    )
    return config
