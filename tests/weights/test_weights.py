"""Weights files: the released names under ours, .safetensors there and back, what is refused, the commands."""

import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy
from scripts import TINY, fails, picture, script, tiny_info, tiny_run, tiny_trees

from refusion_jax import config
from refusion_jax.cli.weights import main
from refusion_jax.errors import InputError
from refusion_jax.fusing import model as inference
from refusion_jax.models import build as networks
from refusion_jax.weights import released
from refusion_jax.weights import trees as parameters
from refusion_jax.weights.safetensors_file import FORMAT, HEADER, read_safetensors, write_safetensors
from refusion_jax.weights.trees import by_name, from_names


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        inference.load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for word in words:
        assert word in message, message


def same(x, y):
    x, y = (parameters.flatten(by_name(t) if isinstance(t, networks.Params) else t) for t in (x, y))
    return x.keys() == y.keys() and all(x[k].tobytes() == y[k].tobytes() for k in x)


@pytest.fixture(scope="module")
def trees():
    return tiny_trees()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny", seeds=(0, 1))


# .safetensors


def test_three_trees_and_info_there_and_back(tmp_path, trees):
    path = tmp_path / "tiny weights.v2 é.safetensors"
    write_safetensors(path, from_names(trees), tiny_info())
    found, info = read_safetensors(path)
    assert info == tiny_info() and same(found, trees)
    before = path.read_bytes()
    for _ in range(8):
        write_safetensors(path, from_names(trees), tiny_info())
        assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    model = inference.load(path)
    assert model.task == "meie" and model.info["step"] == 7 and same(model.params, trees)


def written(path, flat, info=None, form=FORMAT):
    """A file of any tensors and any info; a text is the whole header."""
    header = info if isinstance(info, str) else json.dumps({"format": form, "info": info})
    path.write_bytes(safetensors.numpy.save(flat, {HEADER: header}))
    return path


def flat_of(trees):
    return {f"{net}/{k}": x for net, tree in trees.items() for k, x in parameters.flatten(tree).items()}


def test_any_floating_point_type_becomes_float32(tmp_path, trees):
    for dtype in (np.float64, np.float16, jax.numpy.bfloat16):
        cast = {k: x.astype(dtype) for k, x in flat_of(trees).items()}
        found, _ = read_safetensors(written(tmp_path / "x.safetensors", cast, tiny_info()))
        rounded = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), trees)  # noqa: B023
        assert same(found, rounded)


@pytest.mark.parametrize("size", [0, 4, 8, 100, 0.5, -1])
def test_a_truncated_file(tmp_path, trees, size):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, from_names(trees), tiny_info())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(size * len(whole)) if size == 0.5 else size])
    refused(path, "not a readable .safetensors file")


def test_damaged_and_foreign_files(tmp_path, trees):
    path, flat = tmp_path / "x.safetensors", flat_of(trees)
    write_safetensors(path, from_names(trees), tiny_info())
    whole = path.read_bytes()
    path.write_bytes(b"\xff" * 8 + whole[8:])
    refused(path, "not a readable .safetensors file")
    path.write_bytes(whole + b"more")
    refused(path, "not a readable .safetensors file")
    path.write_bytes(safetensors.numpy.save(flat))
    refused(path, f"expected weights of the format '{FORMAT}', got None")
    refused(written(path, flat, tiny_info(), "refusion_jax 99"), "got 'refusion_jax 99'")
    refused(written(path, {}, tiny_info()), "expected the parameters of F, got none")


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("{", ["not a readable .safetensors file"]),
        ("[" * 100000, ["not a readable .safetensors file"]),
        ("[]", ["expected weights of the format", "got []"]),
        ("{}", ["expected weights of the format", "got None"]),
        ([], ["expected a table", "got list"]),
        (None, ["expected a table"]),
        ({"model": 3}, ["model must be a table, got 3"]),
        ({"loss": []}, ["loss must be a table, got []"]),
        ({"model": {"width": "16"}}, ["model.width must be a whole number, got '16'"]),
        ({"model": {"width": -4}}, ["model.width must be at least 1"]),
        ({"model": {"heads": 0}}, ["model.heads must be at least 1"]),
        ({"model": {"blocks": 10**12}}, ["cannot have 1000000000000 blocks"]),
        ({"model": {"width": 10**30, "heads": 1}}, ["x.safetensors"]),
        ({"model": {"depth": 4}}, ["unknown key 'model.depth'"]),
        ({"loss": {"sobel_form": "other"}}, ["loss.sobel_form must be l1"]),
        ({"loss": {"alpha1": None}}, ["loss.alpha1 must be a finite number"]),
        ({"task": "mei"}, ["task must be one of ivif, mif, mfif, meie, got 'mei'"]),
        ({"task": ["meie"]}, ["task must be one of", "got ['meie']"]),
    ],
)
def test_hostile_info(tmp_path, trees, info, words):
    refused(written(tmp_path / "x.safetensors", flat_of(trees), info), *words)


def test_hostile_names_and_values(tmp_path, trees):
    path, flat, info = tmp_path / "x.safetensors", flat_of(trees), tiny_info()
    some = "F/project_in_1/kernel"
    refused(written(path, flat | {"F": np.zeros(3, np.float32)}, info), "named as F/..., got 'F'")
    refused(written(path, flat | {"X/y": np.zeros(3, np.float32)}, info), "unknown network 'X'")
    refused(written(path, flat | {f"{some}/x": np.zeros(3, np.float32)}, info), "project_in_1/kernel/x")
    refused(written(path, flat | {"F/project_in_1": np.zeros(3, np.float32)}, info), "both 'project_in_1' and")
    refused(written(path, flat | {some: flat[some].astype(np.int32)}, info), f"{some} is int32")
    for bad in (np.nan, np.inf):
        values = flat[some].copy()
        values.flat[3] = bad
        refused(written(path, flat | {some: values}, info), "must be finite", "project_in_1/kernel")
    # Finite as float64, but not as float32.
    refused(written(path, flat | {some: flat[some].astype(np.float64) * 1e300}, info), "must be finite")


def test_another_architecture_lists_what_differs(tmp_path, trees):
    path, flat, info = tmp_path / "x.safetensors", flat_of(trees), tiny_info()
    del flat["P/intensity/prelu/negative_slope"]
    odd = flat_of(trees) | {"F/surplus/kernel": np.zeros(2, np.float32)}
    del odd["F/project_out_1/kernel"]
    odd["F/project_in_1/kernel"] = np.zeros((5, 5, 1, 4), np.float32)
    refused(
        written(path, odd, info),
        "network F: a checkpoint of another architecture",
        "missing project_out_1/kernel",
        "extra surplus/kernel",
        "mis-shaped project_in_1/kernel (5, 5, 1, 4) instead of (3, 3, 1, 4)",
    )
    refused(written(path, flat, info), "network P: a checkpoint of another architecture (missing intensity/prelu/")
    # The published size where the parameters are of the tiny one.
    refused(written(path, flat_of(trees), {"task": "meie"}), "another architecture", "missing", "mis-shaped", "and ")
    refused(
        written(path, {k: x for k, x in flat_of(trees).items() if k[0] != "F"}, info),
        "expected the parameters of F, got P, R",
    )


# The released .pth files


def test_the_released_names_are_one_to_one_with_the_parameters_of_f():
    names = released._released_names()
    expected = networks.expected_shapes(networks.build()).f
    assert sorted(names.values()) == sorted(parameters.flatten(jax.tree.map(lambda x: np.zeros(x.shape), expected)))
    assert parameters.count(expected) == 59856


def state_dict():
    """A state dict of the released layout: every tensor filled with distinct numbers."""
    expected = networks.expected_shapes(networks.build()).f
    shapes = {k: x.shape for k, x in parameters.flatten(jax.tree.map(lambda x: np.zeros(x.shape), expected)).items()}
    state = {}
    for i, (theirs, ours) in enumerate(released._released_names().items()):
        shape = shapes[ours]
        if ours.endswith("temperature"):
            shape = (*shape, 1, 1)
        elif len(shape) == 2:
            shape = (*shape[::-1], 1, 1)
        elif len(shape) == 4:
            shape = (shape[3], shape[2], *shape[:2])
        state[theirs] = (i + np.arange(np.prod(shape)) / 1e5).reshape(shape).astype(np.float32)
    return state


def test_kernels_are_turned_to_our_layout():
    state = state_dict()
    tree = parameters.flatten(released.from_released(state))
    kernel = state["project_in_1.weight"]  # (out, in, row, column)
    assert kernel.shape == (16, 1, 3, 3) and tree["project_in_1/kernel"].shape == (3, 3, 1, 16)
    assert tree["project_in_1/kernel"][0, 2, 0, 5] == kernel[5, 0, 0, 2]
    pointwise = state["encoder1.0.attn.qkv.weight"]
    assert tree["encoder1/0/self_attention/qkv/pointwise"][3, 7] == pointwise[7, 3, 0, 0]
    assert np.array_equal(tree["fusion/attention2/temperature"], state["FM.temperature2"].ravel())
    inference.from_params(networks.Params(released.from_released(state)), {}, "test")


def test_a_state_dict_of_another_network():
    state = state_dict()
    with pytest.raises(InputError, match=r"x: expected .* missing project_in_1.weight, extra foo$"):
        released.from_released({"foo" if k == "project_in_1.weight" else k: x for k, x in state.items()}, "x")
    wide = {k: np.concatenate([x, x]) if x.ndim == 4 else x for k, x in state.items()}
    with pytest.raises(InputError, match="another architecture .*mis-shaped .* instead of"):
        inference.from_params(networks.Params(released.from_released(wide)), {}, "x")
    state["project_in_1.weight"][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="must be finite, but project_in_1/kernel"):
        inference.from_params(networks.Params(released.from_released(state)), {}, "x")


def test_tensors_under_two_names():
    one, other = np.ones(3, np.float32), np.array([1, np.nan, 2], np.float32)
    state = {
        "a.weight": one,
        "a.conv.weight": one.copy(),
        "b.conv.bias": other.copy(),
        "b.bias": other,
        "c.conv.weight": one,  # nothing to be a copy of
        "conv.weight": one,
        "weight": one,
    }
    kept = released.without_copies(state)
    assert list(kept) == ["a.weight", "b.bias", "c.conv.weight", "conv.weight", "weight"]
    assert all(kept[name] is state[name] for name in kept)
    for differing in (one + 1, one.astype(np.float64), one[None]):
        with pytest.raises(InputError, match=r"'a\.weight' and 'a\.conv\.weight'"):
            released.from_released({"a.weight": one, "a.conv.weight": differing})


# {"w": a tensor of 3x4 floats}, as torch.save describes it.
ONE_TENSOR = (
    b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQK\x00K\x03K\x04\x86K\x04K\x01\x86\x89ccollections\nOrderedDict\n)RtRs."
)


def pth(path, data_pkl):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data_pkl)
        file.writestr("archive/data/0", np.zeros(12, np.float32).tobytes())
        file.writestr("archive/version", b"3\n")
    return path


class Hostile:
    """Its pickle makes a folder when it is read by an unpickler that trusts it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pth_files_that_are_refused(tmp_path):
    path = pth(tmp_path / "x.pth", pickle.dumps({"w": Hostile(tmp_path / "made")}, 2))
    refused(path, "mkdir")
    assert not (tmp_path / "made").exists()
    refused(pth(path, ONE_TENSOR), "expected the parameters of the released ReFusion network", "missing", "more")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "truncated or damaged")
    path.write_bytes(b"no zip")
    refused(path, "not a PyTorch checkpoint")


@pytest.mark.parametrize(
    ("name", "task"),
    [("ReFusion_MEIF.pth", "meie"), ("ReFusion_IVIF.pth", "ivif"), ("my mif.pth", "mif"), ("weights.pth", None)],
)
def test_the_name_of_a_released_file_tells_the_task(tmp_path, name, task):
    assert released.task_of_name(tmp_path / "mfif" / name) == task


# Run directories


def test_a_run_gives_its_newest_checkpoint_and_each_one_by_name(run):
    for path, seed in ((run, 1), (run / "checkpoints" / "20", 1), (run / "checkpoints" / "10", 0), (str(run), 1)):
        model = inference.load(path)
        assert same(model.params, tiny_trees(seed)) and model.task == "meie"
        assert model.info["step"] == 10 * (seed + 1) and model.info["preset"] == "paper"


def test_unfinished_checkpoints_are_passed_over(tmp_path):
    folder = tiny_run(tmp_path / "run")
    (folder / "checkpoints" / "99.orbax-checkpoint-tmp-1" / "params").mkdir(parents=True)
    (folder / "checkpoints" / "98" / "params").mkdir(parents=True)
    assert inference.load(folder).info["step"] == 10


def test_folders_that_are_no_checkpoint(tmp_path, run):
    refused(tmp_path, "expected a run directory with checkpoints/")
    (tmp_path / "checkpoints").mkdir()
    refused(tmp_path, "there is no complete checkpoint here")
    refused(tmp_path / "nothing", "no such checkpoint")
    refused(run / "config.toml", "got a .toml file")


@pytest.mark.parametrize("part", ["params", "info"])
def test_a_damaged_checkpoint(tmp_path, part):
    folder = tiny_run(tmp_path / "run")
    for path in sorted((folder / "checkpoints" / "10" / part).rglob("*")):
        if path.is_file():
            path.write_bytes(b"")
    refused(folder, "not a readable checkpoint")


def test_a_checkpoint_whose_info_is_of_something_else(tmp_path):
    folder = tiny_run(tmp_path / "run")
    (metadata,) = (folder / "checkpoints" / "10" / "info").glob("metadata*")
    for content in ("{}", '{"config": 3, "step": 1}', "[]"):
        metadata.write_text(content)
        refused(folder, "expected the run's configuration")


# refusion weights


def test_exported_weights_fuse_to_the_same_bytes(tmp_path, run, repo, capsys):
    out = tmp_path / "new folder" / "tiny.safetensors"
    done = script(repo, "-m", "refusion_jax", "weights", "export", run, out)
    assert done.returncode == 0 and done.stdout == f"wrote {out} (F, R, P)\n", done.stderr
    model, exported = inference.load(run), inference.load(out)
    assert same(exported.params, model.params) and exported.info == model.info
    a, b = picture(0, color=True), picture(1, mean=90)
    assert exported.fuse(a, b).tobytes() == model.fuse(a, b).tobytes()
    assert all(x.tobytes() == y.tobytes() for x, y in zip(exported.maps(a, b), model.maps(a, b), strict=True))

    before = out.read_bytes()
    assert "exists already" in fails(main, capsys, "export", run / "checkpoints" / "10", out)
    assert out.read_bytes() == before
    assert main(["export", str(run / "checkpoints" / "10"), str(tmp_path / "first.safetensors")]) == 0
    assert same(inference.load(tmp_path / "first.safetensors").params, tiny_trees(0))


def test_what_weights_are(run, capsys):
    assert main(["show", str(run)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    sizes = [parameters.count(tree) for tree in (tiny_trees()[net] for net in "FRP")]
    assert lines["task"] == "meie" and lines["step"] == "20" and lines["preset"] == "paper"
    assert lines["parameters"] == "F {:,}, R {:,}, P {:,}".format(*sizes)
    assert "model.width=4" in lines["settings"] and "loss.alpha1" not in lines["settings"]
    assert main(["show", "mif"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["task"] == "mif" and "F 59,856" in lines["parameters"] and "model.symmetric=true" in lines["settings"]
    assert "no such checkpoint" in fails(main, capsys, "show", "nothing")


def test_exports_that_are_refused(tmp_path, run, capsys):
    out = tmp_path / "x.safetensors"
    assert "ending in .safetensors, got" in fails(main, capsys, "export", run, tmp_path / "x.npz")
    assert "no such checkpoint" in fails(main, capsys, "export", tmp_path / "nothing", out)
    (tmp_path / "file").write_text("")
    assert "folder cannot be made" in fails(main, capsys, "export", run, tmp_path / "file" / "x.safetensors")
    assert os.listdir(tmp_path) == ["file"]


def test_exported_released_weights(tmp_path, reference, capsys):
    path = reference / "official_weights" / "ReFusion_MEIF.pth"
    assert main(["export", str(path), str(tmp_path / "x.safetensors")]) == 0
    model = inference.load(tmp_path / "x.safetensors")
    assert model.task == "meie" and same(model.params, inference.load(path).params)
    assert parameters.count(model.params.f) == 59856


def test_weights_of_a_training_say_how_to_make_them_again(tmp_path, capsys):
    run, out = tiny_run(tmp_path / "run"), tmp_path / "x.safetensors"
    (run / "pairs.json").write_text(json.dumps({"train": ["a", "b"], "validation": ["c"]}))
    rows = [{"step": step, "epoch": 1, "phase": "validation", "VIF": vif} for step, vif in ((9, 0.25), (10, 0.75))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["export", str(run), str(out)]) == 0
    for path in (run, out):
        assert main(["show", str(path)]) == 0
        text = capsys.readouterr().out
        assert "trained on 2" in text and "held out 1" in text and "VIF 0.75" in text and "VIF 0.25" not in text
        command = text.partition("made by")[2].split("\n")[0].split()
        assert command[:10] == "python train.py --task meie --preset paper --data DIR --seed 0".split()
        words = iter(command[10:])
        made = [word for option, word in zip(words, words, strict=True) if option == "--set"]
        assert config.resolve("meie", "paper", made) == config.resolve("meie", "paper", TINY)


@pytest.mark.parametrize("stored", [3, {"train": 1}, {"train": {}}, {"seed": {"x": [1]}}, {"train": {"init": 1}}])
def test_strange_settings_of_a_training_are_shown_or_refused_in_a_line(tmp_path, capsys, trees, stored):
    path = written(tmp_path / "x.safetensors", flat_of(trees), tiny_info() | {"config": stored})
    assert main(["show", str(path)]) == 0
    assert "task        meie" in capsys.readouterr().out
