"""python train.py --task meie [...]: see refusion_jax/cli/train.py, or --help."""

import sys

from refusion_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
