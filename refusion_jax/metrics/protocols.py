"""Which definition stands behind a metric's name: the protocols, and `score`, which applies one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.metrics import agreement, exposure, perception, statistics, structure
from refusion_jax.metrics.levels import triplet
from refusion_jax.tasks import nearest, task_name


@dataclass(frozen=True)
class Metric:
    """One metric under one protocol."""

    name: str
    """As in the paper's tables."""
    function: Callable[..., float]
    """Of (source_a, source_b, fused), or of (fused) where `sources` is False; see `levels.as_levels`."""
    unit: str
    """Empty for a pure number."""
    sources: bool = True
    higher_is_better: bool = True

    def __call__(self, source_a: np.ndarray, source_b: np.ndarray, fused: np.ndarray) -> float:
        return self.function(source_a, source_b, fused) if self.sources else self.function(fused)

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


PAPER_METRICS = ("EN", "SD", "SF", "AG", "SCD", "SSIM", "VIF", "QCB", "QNCIE")
"""The nine metrics of the paper's tables, the default list."""

_MODALITY = ("EN", "SD", "SF", "AG", "SCD", "SSIM")
_PHOTOGRAPHY = ("EN", "SD", "SF", "VIF", "QCB", "QNCIE")
TASK_METRICS = {"ivif": _MODALITY, "mif": _MODALITY, "mfif": _PHOTOGRAPHY, "meie": _PHOTOGRAPHY}
"""The six metrics the paper reports for each task (Tables 1 to 4), in its order."""
BESIDE_METRICS = {
    "ivif": ("VIF", "QABF"),  # agree best with what detectors find in the fused image
    "meie": ("MEF-SSIM",),  # the measure of exposure fusion
}
"""What is scored beside them where a task is named."""

_GREY, _BITS = "grey levels", "bits"

_PAPER = (
    Metric("EN", statistics.entropy, _BITS, sources=False),
    Metric("SD", statistics.standard_deviation, _GREY, sources=False),
    Metric("SF", statistics.spatial_frequency, _GREY, sources=False),
    Metric("AG", statistics.average_gradient, _GREY, sources=False),
    Metric("SCD", agreement.scd, ""),
    Metric("SSIM", structure.ssim, ""),
    Metric("VIF", perception.vif, ""),
    Metric("QCB", perception.qcb, ""),
    Metric("QNCIE", agreement.qncie, ""),
    Metric("MI", agreement.mutual_information, _BITS),
    Metric("CC", agreement.correlation_coefficient, ""),
    Metric("MSE", agreement.mse, "squared grey levels", higher_is_better=False),
    Metric("PSNR", agreement.psnr, "dB"),
    Metric("QABF", structure.qabf, ""),
    Metric("MEF-SSIM", exposure.mef_ssim_of_pair, ""),
)


def _protocol(keep: Sequence[str], *others: Metric) -> dict[str, Metric]:
    """The paper's metrics named in `keep`, in its order, with `others` in place of their namesakes."""
    changed = {metric.name: metric for metric in others}
    return {m.name: changed.get(m.name, m) for m in _PAPER if m.name in keep or m.name in changed}


PROTOCOLS: dict[str, dict[str, Metric]] = {
    # Reproduces the paper's tables.
    "paper": {metric.name: metric for metric in _PAPER},
    # CDDFuse's published script. It has no QCB and no QNCIE.
    "cddfuse": _protocol(
        ("EN", "SD", "SF", "AG", "SCD", "CC", "MSE", "PSNR", "QABF"),
        Metric("SSIM", partial(structure.ssim, combine="sum"), ""),
        Metric("VIF", perception.vifp_sum, ""),
        Metric("MI", partial(agreement.mutual_information, unit="nats"), "nats"),
    ),
    # The MATLAB toolbox of the MEFB benchmark, on luma. It has no SCD, SSIM, CC and MSE, and its PSNR divides
    # the root of the summed squares by the pixel count: we offer none of these.
    "mefb": _protocol(
        ("EN", "SD", "VIF", "QCB", "QNCIE", "MI", "QABF", "MEF-SSIM"),
        Metric("SF", statistics.spatial_frequency_mefb, _GREY, sources=False),
        Metric("AG", statistics.average_gradient_mefb, _GREY, sources=False),
    ),
}


def protocol_metrics(protocol: str = "paper", metrics: Sequence[str] | None = None) -> list[Metric]:
    """The metrics asked for, in that order, as the protocol defines them.

    protocol: 'paper', 'cddfuse' or 'mefb'. metrics: names (upper or lower case); without them the paper's
    nine, or those of the nine the protocol has. Raises InputError for an unknown protocol or metric, naming
    the nearest, for a metric the protocol does not define, and for a name given twice or an empty list.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}{nearest(protocol, PROTOCOLS)}")
    known = PROTOCOLS[protocol]
    if metrics is None:
        return [known[name] for name in PAPER_METRICS if name in known]
    names = [name.upper() for name in metrics]
    if not names:
        raise InputError(f"expected at least one metric, got none; choose from {', '.join(known)}")
    for given, name in zip(metrics, names, strict=True):
        if name not in PROTOCOLS["paper"]:
            raise InputError(f"unknown metric {given!r}{nearest(name, known)}")
        if name not in known:
            having = [p for p in PROTOCOLS if name in PROTOCOLS[p]]
            raise InputError(
                f"protocol {protocol!r} does not define {name} (it has {', '.join(known)}); "
                f"drop it or use protocol {' or '.join(having)}"
            )
        if names.count(name) > 1:
            raise InputError(f"metric {name} is given twice; name each once")
    return [known[name] for name in names]


def task_metrics(task: str, protocol: str = "paper") -> list[str]:
    """The paper's six metrics for a task and those beside them, as far as the protocol has them.

    Raises InputError as `task_name`.
    """
    task = task_name(task)
    names = (*TASK_METRICS[task], *BESIDE_METRICS.get(task, ()))
    return [name for name in names if name in PROTOCOLS.get(protocol, PROTOCOLS["paper"])]


def score(
    source_a: np.ndarray,
    source_b: np.ndarray,
    fused: np.ndarray,
    protocol: str = "paper",
    metrics: Sequence[str] | None = None,
) -> dict[str, float]:
    """All metrics asked for of one fused image, by name, in the order asked for.

    source_a, source_b, fused: (H, W) luma of one size: uint8, uint16 or float in [0, 1] (`levels.as_levels`
    says how they become the 8-bit levels the metrics are defined on; it happens once here). protocol,
    metrics: as `protocol_metrics`. Values are finite but for PSNR (infinite where the fused image equals both
    sources).

    Raises InputError for unusable images (colour, NaN, unequal sizes, sides below the smallest window of a
    metric asked for) and for unknown names.
    """
    chosen = protocol_metrics(protocol, metrics)
    a, b, f = triplet(source_a, source_b, fused)
    return {metric.name: metric(a, b, f) for metric in chosen}
