"""python fuse.py --ckpt CKPT --pair A B [...]: see refusion_jax/cli/fuse.py, or --help."""

import sys

from refusion_jax.cli.fuse import main

if __name__ == "__main__":
    sys.exit(main())
