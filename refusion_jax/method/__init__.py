"""The paper's method: losses (Eq. 1-6), meta-gradient (Eq. 7-10), steps (Eq. 9, 11, 12), Algorithm 1."""
