"""The audit pack (docs/pack.md): what a stranger needs to prove a book, and the same data in other programs' forms.

Made in one snapshot, file by file, in flat memory. While it is written everything is held against what was sealed: the
leaves must give the checkpoint's root, the rows must say what the lines say, balances must follow from lines. Of a book
that was changed behind the ledger's back no pack is made; the first culprit is named.
"""

from ledger.export.errors import BookAltered
from ledger.export.pack.container import Container, Entry, File, in_directory, in_zip
from ledger.export.pack.errors import NothingSealed
from ledger.export.pack.scope import Scope, find_scope
from ledger.export.pack.write import FOLDERS, Progress, Written, silent, write_pack, zip_comment

__all__ = [
    "FOLDERS",
    "BookAltered",
    "Container",
    "Entry",
    "File",
    "NothingSealed",
    "Progress",
    "Scope",
    "Written",
    "find_scope",
    "in_directory",
    "in_zip",
    "silent",
    "write_pack",
    "zip_comment",
]
