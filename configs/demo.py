"""Two synthetic voices, 8 kHz: trains on any machine in minutes, without a download.

Mixtures are drawn anew for every step from two voices that a small synthesiser makes in seconds; validation and test
are fixed mixtures of other utterances of the same voices.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.batch_size = 8
    config.data.seconds = 2.0
    config.data.seed = 0
    # Threads make these batches: nothing has to be decoded.
    config.data.num_workers = 0
    # Everything to open_training_mixtures(**config.data.train).
    config.data.train = ConfigDict(
        {
            "corpus": "demo",
            "split": "train",
            "sample_rate": 8000,
            "num_speakers": 2,
            "num_sources": 2,
            "speeds": (95, 100, 105),
            "epoch_size": 800,
        }
    )
    # Everything to open_mixtures(**config.data.validation), and so on.
    config.data.validation = ConfigDict({"layout": "demo", "split": "dev", "num_mixtures": 32})
    config.data.test = ConfigDict({"layout": "demo", "split": "test", "num_mixtures": 64})
    return config
