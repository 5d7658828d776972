"""`mossformer-jax convert`, from a clone: python convert_torch_weights.py --input CHECKPOINT --output MODEL."""

import sys

from mossformer_jax.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    sys.exit(main())
