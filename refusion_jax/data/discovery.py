"""What was found in a folder or a manifest: pairs, how they were recognised, what has no partner, what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.data.listing import Unpaired
from refusion_jax.data.pair import Pair
from refusion_jax.errors import InputError

LAYOUTS = (
    "two sibling folders with equal file stems (such as infrared/ and visible/),"
    " or NAME_A and NAME_B (or NAME_1 and NAME_2) in one folder per scene, directly or under input/"
)


@dataclass(frozen=True)
class Group:
    """Pairs found in one way.

    Attributes:
      layout: a data set's name or the form.
      task: what the names tell; None where they do not.
      order: how it was decided which source is the first.
      first, second: folders relative to the one searched, or forms of file names, as found.
      count: number of pairs.
    """

    layout: str
    task: str | None
    order: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Discovery:
    """The pairs of a folder or a manifest, and everything noticed on the way.

    Attributes:
      source: the folder or the manifest.
      pairs: in natural order of their names.
      groups: how they were recognised.
      unpaired: files without partner.
      errors: what else is wrong, one line each.
      aside: folders that were passed over: labels, masks, results, what lies beside known sources.
      remarks: what a user should know though nothing is wrong, one line each.
    """

    source: Path
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    errors: tuple[str, ...] = ()
    aside: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def task(self) -> str | None:
        """The one task that all names tell; None if they tell none or several."""
        tasks = {group.task for group in self.groups}
        return tasks.pop() if len(tasks) == 1 else None

    def require(self) -> "Discovery":
        """Itself. Raises InputError if there is no pair, a file without partner, or anything else wrong."""
        if self.errors:
            more = f" (and {len(self.errors) - 1} more; the command data lists all)"
            raise InputError(self.errors[0] + (more if len(self.errors) > 1 else ""))
        if self.unpaired:
            raise InputError(unpaired_line(self.unpaired))
        if not self.pairs:
            raise InputError(f"{self.source}: no image pairs found; looked for {LAYOUTS}")
        return self


def unpaired_line(unpaired: Sequence[Unpaired]) -> str:
    """How many files have no partner, and the first of them."""
    what_to_do = "add the missing file or take this one away"
    if len(unpaired) == 1 and unpaired[0].missing.startswith("there is"):
        return f"{unpaired[0].path} is unpaired: {unpaired[0].missing}; {what_to_do}"
    listed = ", ".join(f"{one.path} ({one.missing})" for one in unpaired[:3])
    more = f" and {len(unpaired) - 3} more" if len(unpaired) > 3 else ""
    return f"{len(unpaired)} unpaired: {listed}{more}; {what_to_do}"
