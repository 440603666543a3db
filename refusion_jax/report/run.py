"""The page of a training run: what it is, how far it came, its curves, scores, previews and settings."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import read_image
from refusion_jax.report.curves import curves, usable
from refusion_jax.report.page import checked_path, data_script, escape, page_parts, term_list
from refusion_jax.report.pictures import picture_uri, shown_size
from refusion_jax.report.scores import Scores, find_scores, scores_table
from refusion_jax.runtime.writing import whole_file
from refusion_jax.settings import as_set
from refusion_jax.training.records import read_metrics
from refusion_jax.training.run_settings import Settings, read_settings

NAME = "report.html"
PREVIEW_SIDE = 2048  # pixels: seven columns of 256 fit unscaled
MAX_PREVIEWS = 40


def write_run_report(run: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Writes the page of a training run, finished or not, and returns its path (by default RUN/report.html).

    Reads config.toml, pairs.json, metrics.jsonl, previews/ and the names in checkpoints/ and best/; all but the first
    may be missing or cut off. Raises InputError when RUN is no run directory or the page cannot be written.
    """
    run = Path(run)
    settings = read_settings(run)
    path = checked_path(run / NAME if out is None else out)
    records = usable(read_metrics(run))
    scores = find_scores(run, records, settings["validation.best"])
    previews, notes = read_previews(run)
    drawn = curves(records)
    total = all_steps(settings)
    data = {
        **drawn,
        "scores": scores.as_data(),
        "previews": [{key: p[key] for key in ("epoch", "width", "height")} for p in previews],
        "last": records[-1]["step"] if records else 0,
    }
    held_out = pair_names(run)[1]
    each = max((series["each"] for series in drawn["phases"].values()), default=1)
    values = {
        "title": escape(f"Training {run.resolve().name}"),
        "start": "curves",
        "facts": term_list(facts(run, settings)),
        "progress": progress(records, total),
        "state": state_text(run, records, total, scores),
        "thinned": f"Up to {each} records make one point: the line is their mean, the band their range." * (each > 1),
        "empty": "" if records else "Nothing was recorded yet.",
        "scores": scores_table(scores),
        "previews": preview_note(previews, notes),
        "settings": settings_table(settings),
        "all": escape("\n".join(f"{key} = {as_set(value)}" for key, value in settings.values.items())),
        "held_out": escape(", ".join(held_out)) or "none",
    }
    before, script, end = page_parts("run", values)
    entries = (data_script(f"preview-{i}", p["uri"]) for i, p in enumerate(previews))
    with whole_file(path) as page:
        page.write((before + data_script("data", data) + script).encode())
        for entry in entries:
            page.write(entry.encode())
        page.write(end.encode())
    return path


def all_steps(settings: Settings) -> int:
    """Of the whole training, as method.algorithm.Schedule counts them; without JAX, which takes a second to import."""
    names = ("warmup_steps", "epochs", "meta_epochs", "meta_steps", "fusion_steps")
    warmup, epochs, taught, meta, fusion = (settings.whole(f"train.{name}") for name in names)
    return warmup + min(taught or epochs, epochs) * meta + epochs * fusion


def pair_names(run: Path) -> tuple[list[str], list[str]] | tuple[None, list[str]]:
    """(names trained on, names held out) of pairs.json; (None, []) when it is missing or damaged."""
    try:
        listed = json.loads((run / "pairs.json").read_text(encoding="utf-8"))
        return [str(x) for x in listed["train"]], [str(x) for x in listed["validation"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None, []


def facts(run: Path, settings: Settings) -> list[tuple[str, str]]:
    """What was trained on what."""
    size = settings["data.scene_size"]
    built_in = f"built-in scenes, {settings['data.scenes']} of {size} × {size} pixels"
    train, held_out = pair_names(run)
    meta, fusion, crop = (settings[key] for key in ("train.meta_steps", "train.fusion_steps", "data.crop"))
    warmup, taught = (settings.whole(f"train.{name}") for name in ("warmup_steps", "meta_epochs"))
    return [
        ("task", f"{settings['task']}"),
        ("preset", f"{settings['preset']}"),
        ("data", settings["data.dir"] or built_in),
        ("pairs", "not known" if train is None else f"{len(train)} trained on, {len(held_out)} held out"),
        (
            "recipe",
            (f"warm-up of {warmup} fusion steps, then " if warmup else "")
            + f"{settings['train.epochs']} epochs of {meta} meta and {fusion} fusion steps"
            + (f" (meta steps in the first {taught} alone)" if taught else "")
            + f", batch {settings['data.batch']}, {crop} × {crop} crops",
        ),
        ("seed", f"{settings['seed']}"),
    ]


def progress(records: list[dict[str, Any]], total: int) -> str:
    """The bar of steps done, as HTML."""
    done = records[-1]["step"] if records else 0
    return f'<progress max="{max(total, done, 1)}" value="{done}" aria-label="steps done"></progress>'


def state_text(run: Path, records: list[dict[str, Any]], total: int, scores: Scores) -> str:
    """How far the run came, as HTML: steps, last record, checkpoints, the best."""
    done = records[-1]["step"] if records else 0
    lines = []
    if total and done >= total:
        lines.append(f"<strong>Finished</strong> after {done:,} steps.")
    else:
        share = f" ({100 * done / total:.1f} %)" if total else ""
        lines.append(f"<strong>Not finished</strong>: {done:,} of {total:,} steps{share}.")
    try:
        written = time.localtime((run / "metrics.jsonl").stat().st_mtime)
        lines.append(f"Last record written {time.strftime('%Y-%m-%d %H:%M', written)}.")
    except OSError:
        pass
    kept = ", ".join(f"{step:,}" for step in steps_in(run / "checkpoints"))
    lines.append(f"Checkpoints: step {kept}." if kept else "There is no checkpoint.")
    if scores.best is not None:
        where = f", kept in best/{scores.best['step']}" if scores.best["kept"] else ""
        value = scores.best["value"]
        score = f"{escape(scores.best['name'])} {value:.4g} at " if value is not None else ""
        lines.append(f"Best by validation: {score}step {scores.best['step']:,}{where}.")
    return " ".join(lines)


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, in order."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if re.fullmatch(r"[0-9]{1,15}", name))
    except OSError:
        return []


def read_previews(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """({"epoch", "width", "height", "uri"} by epoch, remarks). Of many, MAX_PREVIEWS spread evenly, first and last."""
    folder = run / "previews"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = sorted((int(m[1]), name) for name in names if (m := re.fullmatch(r"epoch_([0-9]{1,9})\.png", name)))
    notes = []
    if len(found) > MAX_PREVIEWS:
        notes.append(f"{MAX_PREVIEWS} of {len(found)} previews, spread evenly over the epochs.")
        last = len(found) - 1
        found = [found[round(i * last / (MAX_PREVIEWS - 1))] for i in range(MAX_PREVIEWS)]
    previews = []
    for epoch, name in found:
        try:
            pixels = read_image(folder / name)
        except InputError as error:
            notes.append(f"{name} is left out: {error}.")
            continue
        width, height = size = shown_size(pixels.shape, PREVIEW_SIDE)
        previews.append({"epoch": epoch, "width": width, "height": height, "uri": picture_uri(pixels, size)})
    return previews, notes


def preview_note(previews: list[dict[str, Any]], notes: list[str]) -> str:
    """What is said under the previews, as HTML."""
    if not previews:
        notes = ["The run has written no previews (yet); they come at the end of an epoch.", *notes]
    return escape(" ".join(notes))


def settings_table(settings: Settings) -> str:
    """The settings that differ from the defaults, as rows of HTML."""
    rows = [
        f"<tr><th scope=row>{escape(key)}</th><td class=number>{escape(as_set(value))}</td>"
        f"<td class=number>{escape(as_set(default))}</td><td>{escape(origin)}</td></tr>"
        for key, value, default, origin in settings.changed()
    ]
    return "".join(rows) or '<tr><td colspan="4">none: this is the paper\'s recipe</td></tr>'
