r"""Your own recordings, without writing Python.

    mossformer-jax train --config own_data:csv --workdir RUN --config.data.root=/data/mine

The variant says how the data are stored in `config.data.root`:

    csv      train.csv, validation.csv and test.csv, one row per mixture: source_1, source_2, ..., optionally mixture,
             noise, id, speaker_1, ...
    scp      train.scp, validation.scp and test.scp, one line per mixture: mixture.wav source1.wav source2.wav
    folders  train/, validation/ and test/, each with mix/, s1/, s2/, ..., which have the same file names
    dynamic  train/SPEAKER/*.wav, single utterances that are mixed at random; validation.csv and test.csv as above

The rate, the number of sources and the size of the network are set once, and the data follow:
--config.model.sample_rate=16000 --config.model.num_sources=3 --config.model.num_blocks=6. With
--config.train.initial_weights=default (or an official model), they are those of the weights. Every option of the data
can be set, for example --config.data.train.single_share=0.1 in `dynamic` (docs/data.md). `mossformer-jax data inspect`
shows what a training would read.

The recipe and the 55.7M-parameter network are those published for WSJ0-2mix (arXiv 2312.11825). Expect results
that depend on your data. We have not run this config to completion.
"""

from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import section
from mossformer_jax.training.recipe import Recipe


def get_config(csv: bool = False, scp: bool = False, folders: bool = False, dynamic: bool = False) -> ConfigDict:
    config = ConfigDict()
    config.model = section(ModelConfig.preset("mossformer2-2spk", remat="blocks"))
    config.data = ConfigDict({"root": "data", "batch_size": 1, "seconds": 4.0, "seed": 0})
    config.data.update(num_workers=0, max_failed_share=0.001, on_device=False)
    root = config.data.get_oneway_ref("root")
    for part in ("train", "validation", "test"):
        if folders:
            options = {"layout": "folders", "root": root, "split": part}
        elif dynamic and part == "train":
            options = {"corpus": "folder", "root": root + "/train", "speaker_level": 0, "epoch_size": 20000}
        else:
            options = {"layout": "scp" if scp else "csv", "path": root + f"/{part}.{'scp' if scp else 'csv'}"}
        config.data[part] = ConfigDict(options)
    config.train = section(Recipe(epochs=200))
    return config
