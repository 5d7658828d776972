r"""The default model: two talkers, 8 kHz, a MossFormer2 of 1.6M parameters for training and running on two CPU cores.

    python tools/prepare_default_data.py --data DATA --output /data
    mossformer-jax data rooms -o /data/rooms --rooms 400
    mossformer-jax data rooms -o /data/rooms_heldout --rooms 60 --places 2 --seed 1
    python tools/make_heldout.py --data DATA/speech8k --output /data/heldout --condition all \
        --noise /data/noise.csv --rooms /data/rooms_heldout
    mossformer-jax train --config default_8k:first --workdir runs/first --config.data.root=/data
    mossformer-jax train --config default_8k --workdir runs/default_8k --config.data.root=/data \
        --config.train.initial_weights=runs/first/last

DATA holds speech8k, speech8k_more and noise8k: mono files at 8 kHz, listed in a manifest.csv each (path, speaker,
speaker_known, split, n_samples). MODEL_CARD.md names the corpora, their licences and where they come from. The first
command writes the tables of speech and noise with what is held out; the next two simulate rooms (extra `rooms`); the
fourth writes the mixtures of configs/default_8k_heldout.csv, whose speakers, noises and rooms are in no training
mixture: for each condition, 200 for testing and 60 for validation.

The variant `first` starts with the hardest case, two equally loud talkers who speak all the time, in silence. With
easier mixtures included from the start, the network first learns only to follow who is speaking and who is louder. The
last command continues with mixtures as varied as recordings: one talker alone, partial overlap, different levels,
rooms, recorded noise, other voices, drifting levels, telephones and codecs.

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
    config.data.update(num_workers=0, max_failed_share=0.0, on_device=False)
    root, sample_rate = config.data.get_oneway_ref("root"), config.model.get_oneway_ref("sample_rate")
    config.data.train = ConfigDict(
        {
            "corpus": "manifest",
            "path": root + "/speech.csv",
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
                "noise_share": 0.15,
                "noise_snr_db": (20.0, 50.0),
                "level_drift": {"share": 0.1, "range_db": 6.0, "seconds": 1.0},
                # The direct sound is the target, as in WHAMR!.
                "reverberation": {"root": root + "/rooms", "share": 0.35, "target": "dry"},
                "recorded_noise": {
                    "path": root + "/noise.csv",
                    "split": "train",
                    "share": 0.4,
                    "snr_db": (-5.0, 15.0),
                },
                "babble": {"share": 0.05, "num_speakers": (4, 8), "snr_db": (5.0, 20.0)},
                "channel": {"share": 0.1, "codecs": ("telephone", "mu-law", "gsm", "mp3", "opus")},
            }
        )
    for part, table in (("validation", "validation.csv"), ("test", "clean/mixtures.csv")):
        path = root + f"/heldout/{table}"
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
