"""Another state of this code beside this one, call by call: ratios that a drifting machine does not blur.

Run from the checkout: python benchmarks/against.py OTHER_CHECKOUT [--calls 40] [--only fuse train]

Both states compile what their own benchmarks/speed.py measures, each in a process of its own that then waits; every
call of the one is followed by the same call of the other, the order turning each time. Printed are the median of the
ratios of neighbouring calls (this state's seconds over the other's), its 95 % interval by resampling, and the memory of
both.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = {"fuse": [["fuse", "480x640"], ["fuse", "1024x1024"]], "train": [["train", "fusion"], ["train", "meta"]]}


def serve(checkout: str, words: list[str]) -> None:
    """In the other process: compile, then one call and its seconds for each line that comes in."""
    path = Path(checkout) / "benchmarks/speed.py"
    spec = importlib.util.spec_from_file_location("speed", path)
    speed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(speed)

    def timed(call, _):
        call(), call()
        print("ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            call()
            print(time.perf_counter() - start, flush=True)
        return 0.0

    speed.median_seconds = timed
    what, *rest = words
    print(json.dumps({"fuse": speed.measure_fuse, "train": speed.measure_train}[what](*rest, 1)))


class Server:
    """One state's process."""

    def __init__(self, checkout: Path, words: list[str]):
        command = [sys.executable, __file__, str(checkout), "--serve", *words]
        self.process = subprocess.Popen(command, cwd=checkout, stdin=-1, stdout=-1, text=True)
        while (line := self.process.stdout.readline().strip()) != "ready":
            if not line:
                raise SystemExit(f"{checkout}: the measurement did not start (see above)")

    def call(self) -> float:
        self.process.stdin.write("\n"), self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> float:
        """Ends it; its highest memory in MiB."""
        return json.loads(self.process.communicate()[0].splitlines()[-1])["MiB"]


def compare(checkout: Path, words: list[str], calls: int) -> str:
    """A line of the table."""
    import numpy as np

    servers = [Server(ROOT, words), Server(checkout, words)]
    seconds = np.zeros((calls, 2))
    for i in range(calls):
        for j in (0, 1) if i % 2 else (1, 0):
            seconds[i, j] = servers[j].call()
    memory = [server.close() for server in servers]
    ratios = seconds[:, 0] / seconds[:, 1]
    again = np.median(np.random.default_rng(0).choice(ratios, (10000, calls)), axis=1)
    low, high = np.quantile(again, (0.025, 0.975))
    here, there = np.median(seconds, axis=0)
    return (
        f"| {' '.join(words)} | {here:.3f} s | {there:.3f} s | {np.median(ratios):.3f} | {low:.3f} to {high:.3f} "
        f"| {memory[0]:.0f} / {memory[1]:.0f} MiB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", metavar="OTHER_CHECKOUT")
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.checkout, arguments.serve)
        return
    print("| work | this state | the other | ratio | 95 % | memory |\n| --- | --- | --- | --- | --- | --- |")
    for words in sum((WORK[name] for name in arguments.only), []):
        print(compare(Path(arguments.checkout).resolve(), words, arguments.calls), flush=True)


if __name__ == "__main__":
    main()
