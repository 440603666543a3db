"""The command report: a training run as one HTML page."""

import argparse
import sys

from refusion_jax.cli.common import printable, program, run_command


def run(arguments) -> int:
    """Writes the page; returns 0."""
    from refusion_jax.report.run import write_run_report

    path = write_run_report(arguments.run, arguments.out)
    print(printable(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)"))
    return 0


def main(argv: list[str] | None = None) -> int:
    """The report command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=program("report"),
        description="Write a training run, finished or not, as one HTML page that needs no network: losses, gradient "
        "norms, health of P, validation scores, previews, settings.",
    )
    parser.add_argument("run", metavar="RUN", help="the run directory (what --out of the training named)")
    parser.add_argument("--out", metavar="FILE", help="the page to write (default RUN/report.html)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
