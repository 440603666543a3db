"""The rows of Table 5, a file each. Every one replaces a single part by the means that a researcher has: a setting that
names a class or a function (docs/research.md)."""
