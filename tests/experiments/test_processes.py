"""One row through real processes: trained by the command train, scored by the command evaluate."""

import json

from scripts import picture, script, settings

from refusion_jax.imaging.files import write_image

# Networks of a few operations: nothing of the row's own, which stays as it is.
STAND_INS = ("model.fusion=stand_in:Fuse", "model.reconstruction=stand_in:Rebuild")


def test_a_row_is_trained_and_scored(repo, tmp_path):
    for i in range(10):
        for seed, source in enumerate(("ir", "vi")):
            write_image(tmp_path / "pairs" / source / f"{i}.png", picture(10 * seed + i, (40, 48)))
    call = ("-m", "refusion_jax", "experiments", "table5", "--data", tmp_path / "pairs", "--out", tmp_path / "out")
    done = script(
        repo, *call, "--budget", "smoke", "--rows", "II", *settings(*STAND_INS), PYTHONPATH=str(repo / "tests")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1] II-seed0: done" in done.stdout
    result = json.loads((tmp_path / "out" / "results" / "II-seed0.json").read_text())
    assert (result["meta_steps"], result["fusion_steps"], result["pairs_scored"]) == (0, 4, 1)
    assert set(result["metrics"]) == {"EN", "SD", "SF", "AG", "SCD", "SSIM"} and result["seconds"] > 0
    records = [json.loads(line) for line in (tmp_path / "out/runs/II-seed0/metrics.jsonl").read_text().splitlines()]
    # The joint step records no health of P; the fusion step of the method would.
    assert records[-1]["step"] == 4 and "w_imbalance" not in records[-1] and "grad_norm_f" in records[-1]
    table = (tmp_path / "out" / "table5.md").read_text()
    assert f"{result['metrics']['EN']:.3f} (6.23)" in table
