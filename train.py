"""`mossformer-jax train`, from a clone: python train.py --config configs/libri2mix.py --config.data.root=/data."""

import sys

from mossformer_jax.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
