"""The paper's experiments, one command each: Table 5 (ablations), Table 6 (alpha1, alpha2), Table 7 (parameters), the
figures. A room of its own, above training and report: it starts trainings and scorings as a user would, by the
commands, and nothing below knows of it."""
