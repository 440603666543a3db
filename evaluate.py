"""python evaluate.py --data DIR --ckpt CKPT [...]: see refusion_jax/cli/evaluate.py, or --help."""

import sys

from refusion_jax.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
