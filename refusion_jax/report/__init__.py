"""Reports: one self-contained HTML page of fused pairs (`FusionReport`) or of a training run (`write_run_report`)."""

from refusion_jax.report.fusion import FusionReport
from refusion_jax.report.run import write_run_report

__all__ = ["FusionReport", "write_run_report"]
