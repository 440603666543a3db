"""Manifests: lists of pairs as CSV files that can be published and cited; written, read and checked.

    # refusion_jax pairs 1
    # task: ivif
    # root: ../MSRS
    # sha256: 0f3c...
    name,a,b,split,sha256_a,sha256_b
    00001D,train/ir/00001D.png,train/vi/00001D.png,train,5a1e...,77c0...

Paths are relative to the root with `/` between folders; the root is relative to the manifest's own folder, and is that
folder where the line is missing. The hash of the list covers task, names, splits and the files' hashes, but neither
the paths nor the root: it names the content, wherever that lies. Only name, a and b are required; lines before the
header that begin with `#` and columns of other names are passed over. Columns levels_a and levels_b say which values
of files of more than 8 bits are black and white (`imaging.levels.parse_rule`); the hash covers them, too. Fields may
also be separated by semicolons or tabs.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from refusion_jax.data.pairs import SPLITS, Discovery, Group, Pair, in_natural_order
from refusion_jax.errors import InputError
from refusion_jax.imaging.levels import RUN, Rule, parse_rule, text_of
from refusion_jax.runtime.writing import write_bytes
from refusion_jax.tasks import TASKS, task_name

COLUMNS = ("name", "a", "b", "split", "sha256_a", "sha256_b")
LEVELS = ("levels_a", "levels_b")  # only where a pair has any
_TITLE = "refusion_jax pairs"
_VERSION = 1
LONGEST_PATH = 1000


@dataclass(frozen=True)
class Manifest:
    """What a manifest says. `problems` are one line each; pairs of rows with a problem are left out.

    Attributes:
      pairs: in natural order of their names, with the split of each.
      hashes: pair name -> SHA-256 of its files a and b in hex, where the manifest has them.
      sha256: of the list, as computed from the rows.
    """

    path: Path
    root: Path
    task: str | None
    pairs: tuple[Pair, ...]
    hashes: dict[str, tuple[str, str]]
    sha256: str
    problems: tuple[str, ...]

    def as_discovery(self) -> Discovery:
        """The same as `find_pairs` and the survey take it."""
        form = "manifest" + (f" of {self.root}" if self.root != self.path.parent else "")
        groups = (Group(form, self.task, "as listed", ("column a",), ("column b",), len(self.pairs)),)
        return Discovery(self.path, self.pairs, groups if self.pairs else (), errors=self.problems)


def list_hash(task: str | None, rows: Sequence[tuple[str, ...]]) -> str:
    """SHA-256 of a list: of its task and of (name, split, hash of a, hash of b) by plainly sorted name; the levels of a
    and b stand behind these in a row that has any."""
    total = hashlib.sha256(f"{_TITLE} {_VERSION}\0{task or ''}\n".encode())
    for row in sorted(rows):
        total.update("\0".join(row).encode("utf-8", "surrogateescape") + b"\n")
    return total.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes in hex. Raises InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def write(path: Path, pairs: Sequence[Pair], root: Path, task: str | None, hashes: dict[str, tuple[str, str]]) -> str:
    """Writes the pairs, whole or not at all; returns the hash of the list. An existing file is not overwritten.

    root: the folder that the paths will be relative to, best the one that was searched. hashes: as in Manifest.
    Raises InputError for a name that a manifest cannot hold.
    """
    check_new(path)
    rows = []
    for pair in in_natural_order(pairs):
        files = [_portable(file, root) for file in (pair.a, pair.b)]
        if (problem := _name_problem(pair.name)) is not None:
            raise InputError(f"a manifest cannot hold the name {pair.name!r}: {problem}; rename the file")
        name, *more = hashed_row(pair, hashes)
        rows.append((name, *files, *more))
    total = list_hash(task, [hashed_row(pair, hashes) for pair in pairs])
    columns = COLUMNS
    if any(pair.levels for pair in pairs):
        columns, rows = COLUMNS + LEVELS, [row + ("",) * (len(COLUMNS + LEVELS) - len(row)) for row in rows]
    relative = _relative_root(root, path)
    text = io.StringIO()
    text.write(f"# {_TITLE} {_VERSION}\n")
    text.write(f"# task: {task}\n" if task else "")
    text.write(f"# root: {relative}\n" if relative != "." else "")
    text.write(f"# sha256: {total}\n")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError:
        raise InputError(f"a manifest cannot hold the name of the folder {root}: it is not UTF-8; rename it") from None
    write_bytes(path, data)
    return total


def hashed_row(pair: Pair, hashes: dict[str, tuple[str, str]]) -> tuple[str, ...]:
    """What `list_hash` takes of a pair. hashes: as in Manifest."""
    return pair.name, pair.split or "", *hashes.get(pair.name, ("", "")), *map(text_of, pair.levels or ())


def check_new(path: Path) -> None:
    """InputError unless a manifest may be written here: a .csv file that does not exist."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"expected a manifest's name to end in .csv, got {path}")
    if os.path.lexists(path):
        raise InputError(f"{path} exists already; choose another name or delete it first")


def _portable(file: Path, root: Path) -> str:
    relative = Path(os.path.relpath(file, root)).as_posix()
    if "\\" in relative or not relative.isprintable() or relative != relative.strip():  # surrogates are not printable
        raise InputError(
            f"a manifest cannot hold the path {relative!r}: it has a backslash, a control character or a blank at its"
            " end, or is not UTF-8; rename the file"
        )
    return relative


def _relative_root(root: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(os.path.realpath(root), os.path.realpath(path.parent))).as_posix()
    except ValueError:  # on Windows, another drive
        return Path(os.path.abspath(root)).as_posix()


def _name_problem(name: str) -> str | None:
    """What forbids a name: results are written under it, so it must not lead out of their folder."""
    if not name or name != name.strip():
        return "it is empty or begins or ends with a blank"
    if not name.isprintable() or "\\" in name or len(name) > LONGEST_PATH:
        return "it has a backslash or a control character, is not UTF-8 or is very long"
    if name.startswith("/") or re.match("[A-Za-z]:", name) or {"", ".", ".."} & set(name.split("/")):
        return "it would lead out of the folder of the results"
    return None


def read(path: Path, task: str | None = None, root: Path | None = None) -> Manifest:
    """Reads a manifest and looks for its files; their contents are checked by `check_hashes` alone.

    root: the folder of the files, instead of the one the manifest names. Raises InputError for what is no manifest and
    for one of another task than `task`; bad rows, names given twice, missing files and a list that is not the one whose
    hash it bears are the result's `problems`.
    """
    head, columns, rows = _split_text(_text_of(path), path)
    own_task = _task_in(head, path)
    if task and own_task and task != own_task:
        raise InputError(f"{path}: lists pairs for {own_task}, not for {task}; leave out --task, or take another list")
    if root is None:
        root = path.parent
        if "root" in head:
            relative = _path_in(head["root"], f"{path}: root")
            root = Path(os.path.normpath(os.path.join(os.path.realpath(root), relative)))
    elif not root.is_dir():
        raise InputError(f"{root}: expected the folder of the files that {path} lists, but it does not exist")
    pairs, hashes, problems = _pairs_in(columns, rows, path, root)
    total = list_hash(own_task, [hashed_row(pair, hashes) for pair in pairs])
    if "sha256" in head and not problems and head["sha256"].lower() != total:
        problems.append(
            f"{path}: was changed after it was written: its rows have the hash {total}, it says"
            f" {_shown(head['sha256'])}; take the original, or delete its line '# sha256' to use it as it is"
        )
    problems += _missing_files(path, root, pairs)
    if not pairs and not problems:
        problems.append(f"{path}: lists no pairs")
    return Manifest(path, root, own_task or task, in_natural_order(pairs), hashes, total, tuple(problems))


def check_hashes(manifest: Manifest, progress: Callable[[], object] = lambda: None) -> list[str]:
    """One line for each file that is missing or has not the content it had when the manifest was written."""
    problems = []
    for pair in manifest.pairs:
        for file, expected in zip((pair.a, pair.b), manifest.hashes.get(pair.name, ("", "")), strict=True):
            try:
                if expected and file_hash(file) != expected:
                    problems.append(f"{file}: the content is not the one listed (pair '{pair.name}')")
            except InputError as error:
                problems.append(str(error))
        progress()
    return problems


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a CSV file in UTF-8, got another encoding; save it as UTF-8") from None


_Rows = list[tuple[int, list[str]]]  # line number, fields


def _split_text(text: str, path: Path) -> tuple[dict[str, str], list[str], _Rows]:
    """(the `# key: value` lines, the columns' names, the rows)."""
    lines = text.splitlines()
    head: dict[str, str] = {}
    start = 0
    while start < len(lines) and (not lines[start].strip(' ,;\t"') or lines[start].lstrip(' "').startswith("#")):
        # A spreadsheet that saved the file anew may have quoted the line and added commas.
        key, colon, value = lines[start].strip(' ,;\t"').lstrip("# ").partition(":")
        if colon:
            head[key.strip().lower()] = value.strip()
        start += 1
    header = lines[start] if start < len(lines) else ""
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO("\n".join(lines[start:])), strict=True, delimiter=separator)
    try:
        rows = [(start + reader.line_num, _fields(row)) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path} line {start + reader.line_num}: not CSV: {error}") from None
    columns = [column.lower() for column in rows[0][1]] if rows else []
    if not set(columns) >= set(COLUMNS[:3]):
        got = _shown(", ".join(columns))[1:-1] or "nothing"
        raise InputError(f"{path}: expected columns name, a, b (and others), separated by commas; got {got}")
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: two columns have one name; expected each of {_shown(', '.join(columns))} once")
    return head, columns, [(line, row) for line, row in rows[1:] if any(row)]


def _fields(row: list[str]) -> list[str]:
    """The fields of a row, without the empty ones that a spreadsheet leaves at its end."""
    fields = [field.strip() for field in row]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _shown(text: str) -> str:
    """The beginning of what a manifest says, in quotes and on one line."""
    return repr(text[:80])


def _task_in(head: dict[str, str], path: Path) -> str | None:
    try:
        return task_name(head["task"]) if head.get("task") else None
    except InputError:
        raise InputError(f"{path}: names the task {_shown(head['task'])}; expected one of {', '.join(TASKS)}") from None


def _path_in(text: str, where: str) -> Path:
    """A path of a manifest on this machine: backslashes count as /. InputError for what cannot be one."""
    text = text.replace("\\", "/")
    if os.name != "nt" and (re.match("[A-Za-z]:", text) or text.startswith("//")):
        raise InputError(
            f"{where}: {_shown(text)} is a path of a Windows machine; make it relative, or give the folder of the files"
            " to the command data MANIFEST --root DIR --manifest NEW.csv"
        )
    if not text.isprintable() or len(text) > LONGEST_PATH:
        raise InputError(
            f"{where}: expected a path of printable characters, {LONGEST_PATH} at most, got {_shown(text)}"
        )
    return Path(PurePosixPath(text))


def _pairs_in(
    columns: list[str], rows: _Rows, path: Path, root: Path
) -> tuple[list[Pair], dict[str, tuple[str, str]], list[str]]:
    """(pairs of the sound rows, their files' hashes, one line for each of the other rows)."""
    pairs: list[Pair] = []
    hashes: dict[str, tuple[str, str]] = {}
    problems: list[str] = []
    names: dict[str, int] = {}
    files: dict[frozenset[Path], int] = {}
    for line, row in rows:
        where = f"{path} line {line}"
        try:
            row = row + [""] * (len(columns) - len(row))
            if len(row) > len(columns):
                raise InputError(f"{where}: expected {len(columns)} fields, got {len(row)}")
            pair, both = _pair_in(dict(zip(columns, row, strict=True)), root, where)
            if (earlier := names.setdefault(pair.name, line)) != line:
                raise InputError(f"{where}: the name '{pair.name}' stands on line {earlier} already")
            if (earlier := files.setdefault(frozenset((pair.a, pair.b)), line)) != line:
                raise InputError(f"{where}: lists the two files of line {earlier} again")
        except InputError as error:
            problems.append(str(error))
            continue
        pairs.append(pair)
        if any(both):
            hashes[pair.name] = both
    return pairs, hashes, problems


def _pair_in(fields: dict[str, str], root: Path, where: str) -> tuple[Pair, tuple[str, str]]:
    """(the pair of a row, the hashes of its two files or "")."""
    name, split = fields["name"], fields.get("split", "").lower()
    if (problem := _name_problem(name)) is not None:
        raise InputError(f"{where}: the name {_shown(name)} cannot be used: {problem}")
    if split and split not in SPLITS:
        raise InputError(f"{where}: expected split to be {', '.join(SPLITS)} or empty, got {_shown(split)}")
    if not fields["a"] or not fields["b"]:
        raise InputError(f"{where}: pair '{name}' lacks its {'a' if fields['b'] else 'b'}")
    a, b = (root / _path_in(fields[key], f"{where}, {key}") for key in "ab")
    if a == b:
        raise InputError(f"{where}: both files of pair '{name}' are {_shown(fields['a'])}")
    hash_a, hash_b = (fields.get(key, "").lower() for key in ("sha256_a", "sha256_b"))
    for value in (hash_a, hash_b):
        if value and not re.fullmatch("[0-9a-f]{64}", value):
            raise InputError(f"{where}: expected a SHA-256 of 64 hexadecimal digits, got {_shown(value)}")
    return Pair(name, a, b, split or None, _levels_in(fields, where)), (hash_a, hash_b)


def _levels_in(fields: dict[str, str], where: str) -> tuple[Rule, Rule] | None:
    """The levels of a row's two files, None where it gives none."""
    given = [fields.get(column, "") for column in LEVELS]
    if not any(given):
        return None
    try:
        rule_a, rule_b = (parse_rule(text or "auto") for text in given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if RUN in (rule_a, rule_b):
        raise InputError(f"{where}: levels of a row cannot be {RUN.kind!r}: that is one range over all rows (--levels)")
    return rule_a, rule_b


def _missing_files(path: Path, root: Path, pairs: Sequence[Pair]) -> list[str]:
    """One line if files are missing, with their number. Each folder is listed once instead of asking for every file."""
    listed: dict[Path, set[str]] = {}
    missing = []
    for file in (file for pair in pairs for file in (pair.a, pair.b)):
        folder = file.parent
        if folder not in listed:
            try:
                with os.scandir(folder) as entries:
                    listed[folder] = {entry.name for entry in entries if entry.is_file()}
            except OSError:
                listed[folder] = set()
        if file.name not in listed[folder] and not os.path.isfile(file):  # not listed in another case
            missing.append(file)
    if not missing:
        return []
    names = ", ".join(map(str, missing[:3])) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return [
        f"{path}: {len(missing)} of its {2 * len(pairs)} files are missing: {names}; if they lie in another folder than"
        f" {root}, write a list for that one with the command data {path} --root DIR --manifest NEW.csv"
    ]
