"""`mossformer-jax evaluate`, from a clone: python eval.py --config configs/libri2mix.py --run runs/libri2mix."""

import sys

from mossformer_jax.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    sys.exit(main())
