"""Makes a book of a pack that holds a whole log (docs/pack.md, "Import"): same rows, same root.

Everything is posted anew through the ledger's own functions, with its own times, ids and people, so that every rule
judges it again; each entry that comes out must be the pack's, byte for byte. The log takes them in the pack's order.
"""

from ledger.import_pack.errors import BookNotEmpty, ImportDiffers, NotImportable
from ledger.import_pack.load import Imported, import_pack
from ledger.import_pack.source import Pack, opened

__all__ = ["BookNotEmpty", "ImportDiffers", "Imported", "NotImportable", "Pack", "import_pack", "opened"]
