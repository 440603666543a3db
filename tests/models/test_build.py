"""Networks of one's own by the settings: constructed, checked, trained, stored, loaded and fused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stand_in
from flax import linen as nn
from scripts import fails, picture, settings

from refusion_jax.cli.fuse import main as fuse
from refusion_jax.cli.train import main as train
from refusion_jax.cli.weights import main as weights
from refusion_jax.config import resolve
from refusion_jax.errors import InputError
from refusion_jax.fusing.model import load
from refusion_jax.imaging.files import read_image, write_image
from refusion_jax.models.build import FusionNet, ModelSettings, build, check_own, expected_shapes, init_params
from refusion_jax.models.layer_list import LayerList, fuse_whole


class Listed(nn.Module):
    """An F that offers its list: a pixel's weighted mean, `width` times over, and no attention."""

    width: int
    extra: float = 0.5

    def setup(self):
        self.stem, self.last = nn.Dense(self.width, use_bias=False), nn.Dense(1, use_bias=False)

    def layer_list(self):
        return LayerList((lambda x, grid=None: self.stem(x),) * 2, (), self.head, 0)

    def head(self, streams, grid=None):
        return nn.sigmoid(self.last(jnp.concatenate(streams, -1)))

    def __call__(self, a, b):
        return fuse_whole(self.layer_list(), (a, b))


class NeedsMore(nn.Module):
    depth: int

    def __call__(self, a, b):
        return a


class Halves(nn.Module):
    """Another size comes out."""

    @nn.compact
    def __call__(self, a, b):
        return nn.Conv(1, (3, 3), 2)(a)


class OneImage(nn.Module):
    @nn.compact
    def __call__(self, fused):
        return nn.Dense(1)(fused)


class Remembers(nn.Module):
    @nn.compact
    def __call__(self, a, b):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(1)(a + b))


class LearnsNothing(nn.Module):
    def __call__(self, a, b):
        return (a + b) / 2


def test_a_class_is_given_the_size_fields_that_it_declares():
    f, r, p = build(width=3, heads=1, symmetric=True, fusion="test_build:Listed", proposal="stand_in:Propose")
    assert isinstance(f, Listed) and (f.width, f.extra) == (3, 0.5)
    assert (r.width, r.heads) == (3, 1)
    assert type(p) is stand_in.Propose
    with pytest.raises(InputError, match="model.fusion: cannot construct test_build:NeedsMore: .*depth.*defaults"):
        build(fusion="test_build:NeedsMore")


def test_every_setting_of_the_size_reaches_the_networks():
    small = ModelSettings(4, 2, 1, 1)
    shapes = [expected_shapes(build(**dataclasses.asdict(small)))]
    for change in ({"width": 6}, {"heads": 4}, {"blocks": 2}, {"expansion": 2}):
        other = expected_shapes(build(**dataclasses.asdict(dataclasses.replace(small, **change))))
        for one, before in zip(other, shapes[0], strict=True):
            assert jax.tree.map(jnp.shape, one) != jax.tree.map(jnp.shape, before), change
    assert build(symmetric=True)[2].symmetric and not build()[2].symmetric


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fuse", "must be package.module:name or empty, got 'Fuse'"),
        ("a b:C", "must be package.module:name or empty, got 'a b:C'"),
        ("os.path:", "must be package.module:name"),
        ("no_such_module:Fuse", "cannot import 'no_such_module': No module named 'no_such_module'"),
        ("stand_in:NoSuchClass", "stand_in has no 'NoSuchClass'"),
        ("stand_in:build", "must be a class derived from flax.linen.Module"),
        ("pathlib:Path", "must be a class derived from flax.linen.Module"),
        ("test_build:Halves", r"must give F's \(1, 16, 32, 1\) .* got \(1, 8, 16, 1\)"),
        ("stand_in:Rebuild", "cannot build F"),
        ("test_build:OneImage", "cannot build F .*positional argument"),
        ("test_build:Remembers", "must keep all it has in parameters, got batch_stats"),
    ],
)
def test_classes_that_cannot_be_used(name, words):
    with pytest.raises(InputError, match=words) as caught:
        check_own(resolve("meie", "paper", [f"model.fusion={name}"]).model, 1)
    assert "model.fusion" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("setting", "name"), [("reconstruction", "R"), ("proposal", "P")])
def test_the_shapes_of_r_and_p_are_checked(setting, name):
    with pytest.raises(InputError, match=rf"cannot build {name} \(model.{setting} Fuse\)"):
        check_own(ModelSettings(**{setting: "stand_in:Fuse"}), 1)
    check_own(ModelSettings(**{setting: {"R": "stand_in:Rebuild", "P": "stand_in:Propose"}[name]}), 2)


def test_a_network_may_have_no_parameters():
    settings = ModelSettings(fusion="test_build:LearnsNothing")
    check_own(settings, 1)
    modules = (build(**dataclasses.asdict(settings))[0], *stand_in.build()[1:])
    assert init_params(modules, jax.random.key(0)).f == {} == expected_shapes(modules).f


def test_a_module_in_the_current_folder_is_found(monkeypatch, tmp_path):
    (tmp_path / "mine_alone.py").write_text("from refusion_jax.models import FusionNet as F\n")
    with pytest.raises(InputError, match="cannot import"):
        build(fusion="mine_alone:F")
    monkeypatch.chdir(tmp_path)
    assert type(build(fusion="mine_alone:F")[0]) is FusionNet


def test_settings_are_all_that_own_networks_take(tmp_path, capsys):
    """train.py, weights export and fuse.py with an F without a list, an R and a P of one's own."""
    run, a, b = tmp_path / "run", tmp_path / "x_A.png", tmp_path / "x_B.png"
    for path, seed in ((a, 1), (b, 2)):
        write_image(path, picture(seed, (30, 41)))
    assert train(["--task", "meie", "--out", str(run), *settings(*stand_in.SETTINGS)]) == 0
    model = load(run)
    assert model.settings.fusion == "stand_in:Fuse" and model.settings.proposal == "stand_in:Propose"
    assert set(model.params.f) == {"Dense_0", "Dense_1"}
    assert weights(["export", str(run), str(tmp_path / "own.safetensors")]) == 0
    exported = load(tmp_path / "own.safetensors")
    assert exported.settings == model.settings
    out = tmp_path / "fused.png"
    assert fuse(["--ckpt", str(tmp_path / "own.safetensors"), "--pair", str(a), str(b), "--out", str(out)]) == 0
    assert np.array_equal(read_image(out), model.fuse(read_image(a), read_image(b)))
    images = (read_image(x)[None, ..., None] / np.float32(255) for x in (a, b))
    first, second = sorted(images, key=np.mean)
    expected = stand_in.Fuse().apply({"params": model.params.f}, first, second)[0, ..., 0]
    np.testing.assert_allclose(model.network_output(read_image(a), read_image(b)), expected, atol=1e-6)
    assert [x.shape for x in model.maps(read_image(a), read_image(b))] == [(30, 41, 2)] * 2
    capsys.readouterr()


def test_a_class_that_cannot_be_used_leaves_no_run_directory(tmp_path, capsys):
    out = tmp_path / "run"
    given = settings(*stand_in.SETTINGS, "model.fusion=test_build:Halves")
    assert "model.fusion Halves must give" in fails(train, capsys, "--task", "meie", "--out", out, *given)
    assert not out.exists()


def test_a_network_with_a_list_is_fused_in_tiles():
    from refusion_jax.fusing.model import from_params
    from refusion_jax.models.build import Params

    rng = np.random.default_rng(0)
    shapes = expected_shapes(build(width=3, heads=1, fusion="test_build:Listed"), networks=("F",))
    params = Params(jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes.f))
    model = from_params(params, {"model": {"width": 3, "heads": 1, "fusion": "test_build:Listed"}}, "test")
    seen, (a, b) = [], (picture(i, (250, 150)) for i in (1, 2))
    fused = model.network_output(a, b, lambda *x: seen.append(x))
    assert len(seen) == 6, "tiles of one pass"
    images = (x[None, ..., None] / np.float32(255) for x in (a, b))
    np.testing.assert_allclose(fused, Listed(3).apply({"params": params.f}, *images)[0, ..., 0], atol=1e-6)
