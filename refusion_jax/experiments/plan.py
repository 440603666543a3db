"""What is trained for a table: its rows as differences in the settings, and how long every training is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refusion_jax.errors import InputError
from refusion_jax.tasks import nearest

ABLATIONS = "refusion_jax.experiments.ablations"
FULL = "Ours"
ALPHAS = ("0.1", "0.2", "0.5", "1", "2", "5", "10")


@dataclass(frozen=True)
class Budget:
    """How long every training of a table is; all else is the task's own recipe."""

    epochs: int
    meta_steps: int
    fusion_steps: int
    seeds: int
    warmup: int = 0  # fusion steps with w = v = 1/2 before the first epoch
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def lengths(self) -> str:
        """The steps and batches of a training in words."""
        warmup = f", after {self.warmup} fusion steps with w = v = 1/2" if self.warmup else ""
        return (
            f"{self.epochs} epochs of {self.meta_steps} meta and {self.fusion_steps} fusion steps{warmup}, batch "
            f"{self.batch}, {self.crop}x{self.crop} crops"
        )

    @property
    def crop(self) -> int:
        """Side of the crops, pixels."""
        return int(str(self.settings.get("data.crop", 128)))

    @property
    def batch(self) -> int:
        """Pairs in a batch."""
        return int(str(self.settings.get("data.batch", 4)))


_TINY = {"model.width": 4, "model.heads": 2, "model.blocks": 1}

BUDGETS = {
    # That everything runs: minutes on two CPU cores. Its numbers mean nothing.
    "smoke": Budget(
        epochs=1,
        meta_steps=2,
        fusion_steps=4,
        seeds=1,
        settings={"data.crop": 32, "data.batch": 2, "log.preview_pairs": 0, **_TINY},
    ),
    # 3 % of the paper's steps, in small crops: minutes of two idle CPU cores for each row and seed. The warm-up and
    # the short epochs, which the paper does not have, are what lets P find something in so short a training
    # (docs/findings.md).
    "small": Budget(
        epochs=40,
        meta_steps=6,
        fusion_steps=40,
        seeds=2,
        warmup=1000,
        settings={"data.crop": 32, "train.lr_f": 1e-3, "train.lr_r": 1e-3, "train.lr_p": 3e-4},
    ),
    "paper": Budget(epochs=50, meta_steps=600, fusion_steps=1600, seeds=3),
}


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a table, a training for each seed: what it changes in the settings.

    label: the row of the paper's table (evaluation/paper_tables.toml). phases: the steps it has: "both" of Algorithm 1;
    "fusion" steps alone; "meta" steps alone, as many as F has updates in the full method.
    """

    name: str
    label: str
    settings: Mapping[str, object] = field(default_factory=dict)
    phases: str = "both"


_EQUAL = {"model.proposal": f"{ABLATIONS}.equal_weights:EqualWeights"}


def _fusion(name: str) -> dict[str, object]:
    return {"model.fusion": f"{ABLATIONS}.{name}"}


def _steps(name: str) -> dict[str, object]:
    return {"train.steps": f"{ABLATIONS}.{name}:make_steps"}


TABLE_5 = (
    Row("I", "I w/o learnable loss, w = v = 1/2", _EQUAL, "fusion"),
    Row("II", "II w/o meta-learning", {**_EQUAL, **_steps("joint")}, "fusion"),
    Row("III", "III w/o fusion and reconstruction update", _steps("kept_inner"), "meta"),
    Row("IV", "IV sum for max in Eq. 5 and 6", {"loss.reconstruction": f"{ABLATIONS}.sum_loss:sum_loss"}),
    Row("V", "V If = wa Ia + wb Ib", _fusion("decision:DecisionFusion")),
    Row("VI", "VI concatenation for AFM", _fusion("concatenation:ConcatenationFusion")),
    Row("VII", "VII w/o interactive feature extraction", _fusion("own_attention:OwnAttentionFusion")),
    Row("VIII", "VIII w/o gating feature refinement", _fusion("ungated:UngatedFusion")),
    Row(FULL, FULL),
)


def _alpha_rows() -> tuple[Row, ...]:
    rows = [
        Row(f"{name}-{value}", value, {f"loss.{name}": float(value)})
        for name in ("alpha1", "alpha2")
        for value in ALPHAS
        if value != "1"
    ]
    return (*rows, Row(FULL, "1"))  # both are 1: one training for both halves of the table


@dataclass(frozen=True)
class Experiment:
    """A table of the paper: its rows, and the parts in which it is printed."""

    name: str
    rows: tuple[Row, ...]
    parts: Mapping[str, tuple[str, ...]]  # the paper's table (evaluation/paper_tables.toml) -> names of rows


EXPERIMENTS = {
    "table5": Experiment("table5", TABLE_5, {"Table 5 ablations": tuple(row.name for row in TABLE_5)}),
    "table6": Experiment(
        "table6",
        _alpha_rows(),
        {
            f"Table 6 {name}": tuple(FULL if value == "1" else f"{name}-{value}" for value in ALPHAS)
            for name in ("alpha1", "alpha2")
        },
    ),
}


def find_budget(name: str) -> Budget:
    """The budget of that name. InputError for another."""
    if name not in BUDGETS:
        raise InputError(f"unknown budget {name!r}{nearest(name, BUDGETS)}")
    return BUDGETS[name]


def chosen_rows(experiment: Experiment, names: list[str] | None) -> tuple[Row, ...]:
    """The rows named, in any case, in the table's order; all without names. InputError for one that is not there."""
    if not names:
        return experiment.rows
    known = {row.name.casefold(): row.name for row in experiment.rows}
    for name in names:
        if name.casefold() not in known:
            raise InputError(f"{experiment.name} has no row {name!r}{nearest(name, known.values())}")
    wanted = {known[name.casefold()] for name in names}
    return tuple(row for row in experiment.rows if row.name in wanted)


def lengths(budget: Budget, row: Row) -> tuple[int, int]:
    """(meta steps, fusion steps) of a row's whole training."""
    fusion = budget.warmup + budget.epochs * budget.fusion_steps
    return {"both": (budget.epochs * budget.meta_steps, fusion), "fusion": (0, fusion), "meta": (fusion, 0)}[row.phases]


def settings_of(budget: Budget, row: Row) -> dict[str, object]:
    """A row's settings by section.key, as --set takes them."""
    meta, fusion = lengths(budget, row)
    warmup = budget.warmup if fusion else 0
    return {
        **budget.settings,
        "train.epochs": budget.epochs,
        "train.meta_steps": meta // budget.epochs,
        "train.fusion_steps": (fusion - warmup) // budget.epochs,
        "train.warmup_steps": warmup,
        "validation.every": 0,
        "log.preview_every": budget.epochs,
        "log.tensorboard": "false",
        **row.settings,
    }
