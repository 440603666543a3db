"""The configuration: what overrides what, the recipes, what --set accepts and refuses, config.toml there and back."""

import dataclasses

import pytest

from refusion_jax import config
from refusion_jax.errors import InputError

TASKS = ("ivif", "mif", "mfif", "meie")


def refused(words, call, *arguments, **keywords):
    """The message of an InputError: one line that holds all the words."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def value_of(found, key):
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_recipe(task):
    found = config.resolve(task)
    assert (found.task, found.preset, found.seed) == (task, "paper", 0)
    assert (found.train.epochs, found.train.meta_steps, found.train.fusion_steps) == (50, 600, 1600)
    assert (found.train.lr_f, found.train.lr_r, found.train.lr_p, found.train.lr_decay) == (1e-4, 1e-4, 1e-4, 1)
    assert (found.data.batch, found.data.crop, found.data.validation_every) == (4, 128, 10)
    assert (found.loss.alpha1, found.loss.alpha2, found.loss.sobel_form) == (1, 1, "l1")
    assert (found.model.width, found.model.heads, found.model.blocks, found.model.expansion) == (16, 8, 2, 2)
    assert not found.meta.first_order and found.meta.inner_steps == 1 and found.meta.optimizer == "adam"
    assert found.meta.adam_eps <= 1e-15 and found.meta.inner_optimizer == "sgd"
    # What the paper does not have is off.
    assert (found.train.warmup_steps, found.train.lr_cosine, found.loss.w_floor, found.model.symmetric) == (0,) * 4
    assert (found.meta.eta_f, found.meta.eta_r, found.loss.proposal_form) == (0, 0, "")
    assert found.train.lr_decay_epochs == 10 and found.loss.alpha1 == found.loss.alpha2 == 1


@pytest.mark.parametrize("task", TASKS)
def test_quick_is_shorter_and_keeps_the_tasks_settings(task):
    paper, quick = config.resolve(task), config.resolve(task, "quick")
    for found in (paper, quick):
        assert found.train.epochs * (found.train.meta_steps + found.train.fusion_steps) > 0
    assert quick.preset == "quick" and quick.train.epochs * quick.train.fusion_steps < 1000
    assert quick.loss == paper.loss and quick.model == paper.model


@pytest.mark.parametrize("task", TASKS)
def test_tuned_has_a_schedule_of_its_own_and_changes_what_the_losses_see(task):
    paper, tuned = config.resolve(task), config.resolve(task, "tuned")
    assert tuned.meta == paper.meta and tuned.data.crop < tuned.data.late_crop and tuned.data.late_epochs
    assert (
        tuned.train.total - tuned.train.all_meta_steps >= 10_000 and tuned.train.warmup_steps and tuned.train.lr_cosine
    )
    assert (
        tuned.loss.sobel_scale == 1 and tuned.loss.sobel_form == "components" and "models.ruled" in tuned.model.proposal
    )


def test_a_preset_may_differ_by_task(tmp_path, monkeypatch):
    for name, text in {
        "meie": "",
        "mfif": "",
        "quick": "[train]\nepochs = 3\nmeta_steps = 4",
        "quick-meie": "[train]\nepochs = 2",
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.setattr(config, "config_folder", lambda: tmp_path)
    found = {task: config.resolve(task, "quick").train for task in ("meie", "mfif")}
    assert {k: (x.epochs, x.meta_steps) for k, x in found.items()} == {"meie": (2, 4), "mfif": (3, 4)}


def test_each_level_overrides_those_before(tmp_path, monkeypatch):
    for name, text in {
        "meie": "[train]\nepochs = 40\nmeta_steps = 41\nfusion_steps = 42\n[data]\ncrop = 44",
        "quick": "[train]\nmeta_steps = 31\nfusion_steps = 32\n[data]\ncrop = 34",
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.setattr(config, "config_folder", lambda: tmp_path)
    given = ["train.fusion_steps=21", "train.fusion_steps=22", "data.crop=24"]
    found = config.resolve("meie", "quick", given, **{"data.crop": 14})
    train = found.train
    assert (train.lr_f, train.epochs, train.meta_steps, train.fusion_steps, found.data.crop) == (1e-4, 40, 31, 22, 14)
    assert config.resolve("meie", "paper").train.meta_steps == 41


def test_a_mistake_in_a_file_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "config_folder", lambda: tmp_path)
    (tmp_path / "meie.toml").write_text("[train]\nepoch = 40")
    refused(["meie.toml", "'train.epoch'", "'train.epochs'"], config.resolve, "meie")
    refused(["mfif.toml", "No such file"], config.resolve, "mfif")


@pytest.mark.parametrize("name", ["meie", "meif", "MEIF", "Meie"])
def test_meif_means_meie(name):
    assert config.resolve(name) == config.resolve("meie")


def test_unknown_tasks_and_presets():
    refused(["unknown task 'mei'", "ivif, mif, mfif, meie", "did you mean 'meie'"], config.resolve, "mei")
    refused(["unknown task ''"], config.resolve, "")
    refused(["unknown preset 'quik'", "did you mean 'quick'"], config.resolve, "meie", "quik")


@pytest.mark.parametrize(
    ("assignment", "key", "expected"),
    [
        ("train.epochs=3", "train.epochs", 3),
        (" train.epochs = 3 ", "train.epochs", 3),
        ("train.lr_f=1e-3", "train.lr_f", 1e-3),
        ("train.lr_f=1", "train.lr_f", 1.0),
        ("data.flips=false", "data.flips", False),
        ("loss.sobel_form=magnitude", "loss.sobel_form", "magnitude"),
        ('loss.sobel_form="components"', "loss.sobel_form", "components"),
        ('data.exclude=["a", "b c"]', "data.exclude", ("a", "b c")),
        ("data.dir=/my pairs/é=1", "data.dir", "/my pairs/é=1"),
        ("data.dir=2024", "data.dir", "2024"),
        ("data.dir=2024-01-01", "data.dir", "2024-01-01"),
        ("seed=5", "seed", 5),
    ],
)
def test_values(assignment, key, expected):
    found = value_of(config.resolve("meie", "paper", [assignment]), key)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.epochs=1e3", ["train.epochs must be a whole number", "1000.0"]),
        ("train.epochs=true", ["train.epochs must be a whole number", "True"]),
        ("train.epochs=ten", ["train.epochs must be a whole number", "'ten'"]),
        ("train.epochs=", ["train.epochs must be a whole number", "''"]),
        ("train.epochs=3\nepochs = 4", ["train.epochs must be a whole number"]),
        ("train.epochs=" + 5000 * "[", ["train.epochs must be a whole number"]),
        ("data.flips=1", ["data.flips must be true or false"]),
        ("data.flips=yes", ["data.flips must be true or false", "'yes'"]),
        ("train.lr_f=fast", ["train.lr_f must be a finite number"]),
        ("train.lr_f=nan", ["train.lr_f must be a finite number"]),
        ("train.lr_f=inf", ["train.lr_f must be a finite number"]),
        ("train.lr_f=1" + 400 * "0", ["train.lr_f must be a finite number"]),
        ("data.exclude=a", ["data.exclude must be a list of texts", "'a'"]),
        ("data.exclude=[1]", ["data.exclude must be a list of texts"]),
        ("train.epochs", ["--set 'train.epochs'", "section.key=value"]),
        ("=3", ["--set '=3'", "section.key=value"]),
        ("task=mfif", ["--set task", "use --task 'mfif'"]),
        ("preset=quick", ["--set preset", "use --preset 'quick'"]),
    ],
)
def test_wrong_types_and_forms(assignment, words):
    refused(words, config.resolve, "meie", "paper", [assignment])


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("trian.epochs", "train.epochs"),
        ("data.epochs", "train.epochs"),
        ("Train.Epochs", "train.epochs"),
        ("epoch", "train.epochs"),
        ("width", "model.width"),
        ("keep", "checkpoint.keep"),
        ("every_steps", "checkpoint.every_steps"),
        ("flip", "data.flips"),
        ("sobel", "loss.sobel_form"),
        ("sede", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest(given, nearest):
    said = f"--set: unknown key '{given}'; did you mean '{nearest}'?"
    refused([said], config.resolve, "meie", "paper", [f"{given}=1"])


def test_every_key_is_found_without_its_section():
    assert len(config.all_keys()) > 40
    for key in config.all_keys():
        bare = key.rpartition(".")[2]
        namesakes = [k for k in config.all_keys() if k.rpartition(".")[2] == bare]  # log.every, validation.every
        assert config.nearest_key(bare) in namesakes and len(namesakes) <= 2


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["train.epochs=0"], ["train.epochs must be at least 1, got 0"]),
        (["train.lr_p=0"], ["train.lr_p must be greater than 0, got 0.0"]),
        (["meta.adam_eps=0"], ["meta.adam_eps must be greater than 0"]),
        (["loss.alpha1=-1"], ["loss.alpha1 must be 0 or more, got -1.0"]),
        (["seed=-1"], ["seed must be 0 or more"]),
        (["seed=2147483648"], ["seed must be below 2147483648"]),
        (["data.crop=7"], ["data.crop must be at least 8"]),
        (["data.scenes=1"], ["data.scenes must be at least 2"]),
        (["data.validation_every=1"], ["data.validation_every must be 0 (none) or at least 2"]),
        (["data.batch=0"], ["data.batch must be at least 1, got 0"]),
        (["model.heads=3"], ["model.heads must be a divisor of model.width 16, got 3"]),
        (["model.heads=0"], ["model.heads must be at least 1"]),
        (["loss.sobel_form=l3"], ["loss.sobel_form must be l1 or magnitude or components, got 'l3'"]),
        (["loss.w_floor=0.5"], ["loss.w_floor must be below 0.5, got 0.5"]),
        (["meta.inner_optimizer=lion"], ["meta.inner_optimizer must be sgd or adam or momentum, got 'lion'"]),
        (["meta.optimizer=sgd"], ["meta.optimizer must be adam or normalized, got 'sgd'"]),
        (["data.late_crop=96"], ["data.late_crop and data.late_epochs belong together", "got 96 and 0"]),
        (["data.late_epochs=2"], ["data.late_crop and data.late_epochs belong together", "got 0 and 2"]),
        (["train.meta_steps=0", "train.fusion_steps=0"], ["train.fusion_steps must be positive if meta_steps is 0"]),
    ],
)
def test_values_out_of_range(assignments, words):
    refused(words, config.resolve, "meie", "paper", assignments)


# Of every setting that is a number: a value out of its range, and one at the end of it.
ENDS = {
    "seed": (-1, 0),
    "data.crop": (7, 8),
    "data.batch": (0, 1),
    "data.validation_every": (-1, 0),
    "data.cache_mib": (-1, 0),
    "data.max_pixels": (0, 1),
    "data.scenes": (1, 2),
    "data.scene_size": (31, 32),
    "model.width": (0, 8),
    "model.heads": (0, 1),
    "model.blocks": (0, 1),
    "model.expansion": (0, 1),
    "loss.alpha1": (-0.1, 0.0),
    "loss.alpha2": (-0.1, 0.0),
    "loss.w_floor": (-0.1, 0.0),
    "loss.sobel_scale": (0.0, 1e-9),
    "meta.inner_steps": (0, 1),
    "meta.eta_f": (-0.1, 0.0),
    "meta.eta_r": (-0.1, 0.0),
    "meta.adam_eps": (0.0, 1e-30),
    "train.epochs": (0, 1),
    "train.meta_steps": (-1, 0),
    "train.fusion_steps": (-1, 0),
    "train.lr_f": (0.0, 1e-9),
    "train.lr_r": (0.0, 1e-9),
    "train.lr_p": (0.0, 1e-9),
    "train.lr_decay": (0.0, 1e-9),
    "train.lr_decay_epochs": (0, 1),
    "train.meta_epochs": (-1, 0),
    "train.warmup_steps": (-1, 0),
    "data.late_crop": (-1, 0),
    "data.late_epochs": (-1, 0),
    "train.devices": (-1, 0),
    "train.steps_per_dispatch": (-1, 0),
    "log.every": (0, 1),
    "log.similarity": (-1, 0),
    "log.preview_every": (0, 1),
    "log.preview_pairs": (-1, 0),
    "log.preview_size": (7, 8),
    "validation.every": (-1, 0),
    "validation.pairs": (0, 1),
    "checkpoint.keep": (0, 1),
    "checkpoint.every_minutes": (-0.1, 0.0),
    "checkpoint.every_steps": (-1, 0),
}


def test_numbers_may_go_to_their_end_and_no_further():
    numbers = {k for k, x in config.flatten(config.to_dict(config.Config()), "").items() if type(x) in (int, float)}
    assert set(ENDS) == numbers
    for key, (outside, end) in ENDS.items():
        refused([f"{key} must be", f"got {outside!r}"], config.resolve, "meie", "paper", [f"{key}={outside}"])
        assert value_of(config.resolve("meie", "paper", [f"{key}={end}"]), key) == end


def test_what_is_allowed_at_the_edges():
    edges = [
        "data.batch=1",
        "data.validation_every=0",
        "train.meta_steps=0",
        "log.preview_pairs=0",
        "loss.alpha1=0",
        "data.cache_mib=0",
        "seed=2147483647",
    ]
    assert config.resolve("meie", "paper", edges).data.batch == 1


def test_config_toml_there_and_back(tmp_path):
    given = ['data.exclude=["a b", "ü"]', 'data.dir=/a \\ "b"/é', "train.lr_f=3e-5", "meta.first_order=true"]
    for task in TASKS:
        found = config.resolve(task, "quick", given, seed=7)
        (tmp_path / "config.toml").write_text(config.to_toml(found), encoding="utf-8")
        assert config.load(tmp_path / "config.toml") == found


def test_every_key_is_written_and_can_be_set(tmp_path):
    written = config.flatten(config.to_dict(config.Config()), "defaults")
    assert list(written) == config.all_keys()
    for key, value in written.items():
        assert config.override(config.Config(), {key: value}, "test") == config.Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().seed = 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[train]\nepochs = 3.5", ["train.epochs must be a whole number, got 3.5"]),
        (b"[train]\nepochs = 0", ["train.epochs must be at least 1"]),
        (b"[trian]\nepochs = 3", ["unknown key 'trian.epochs'", "'train.epochs'"]),
        (b"[data]\nswap_sources = true", ["unknown key 'data.swap_sources'", "another version", "--init"]),
        (b"[trian]\n", ["unknown section [trian]"]),
        (b"[data.train]\nepochs = 3", ["unknown key 'data.train'"]),
        (b"task = 'mei'", ["unknown task 'mei'", "'meie'"]),
        (b"preset = 'fast'", ["preset must be paper or quick or tuned, got 'fast'"]),
        (b"train = 3", ["unknown key 'train'"]),
        (b"[train", ["cannot read the configuration"]),
        (b"dir = '\xff'", ["cannot read the configuration"]),
        (b"x = " + 5000 * b"[", ["cannot read the configuration"]),
    ],
)
def test_a_broken_config_toml(tmp_path, content, words):
    (tmp_path / "config.toml").write_bytes(content)
    refused(words, config.load, tmp_path / "config.toml")


def test_a_config_toml_that_is_not_there(tmp_path):
    refused(["cannot read the configuration", "config.toml", "No such file"], config.load, tmp_path / "config.toml")
    refused(["cannot read the configuration", "directory"], config.load, tmp_path)


def test_meif_in_a_config_toml_means_meie(tmp_path):
    (tmp_path / "config.toml").write_text("task = 'MEIF'")
    assert config.load(tmp_path / "config.toml").task == "meie"
