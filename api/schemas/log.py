"""The transparency log as JSON. Hashes of proofs are in base64, as in checkpoints; of leaves in hex, as in journals."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Closed, Instant, View
from ledger.log.keys import LogKey
from ledger.log.receipt import Inclusion

Size = Annotated[int, Field(ge=0, le=2**56)]
Hash = Annotated[str, Field(examples=["CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="])]
SignedNote = Annotated[
    str, Field(description="C2SP signed note", examples=["khata.local/main\n…\n\n— khata.local/main …\n"])
]


class InclusionQuery(Closed):
    """Either `index` or `journal`."""

    index: Annotated[Size | None, Field(description="Which leaf, from 0")] = None
    journal: Annotated[UUID | None, Field(description="The leaf of this journal")] = None
    size: Annotated[
        Size | None, Field(ge=1, description="In the tree of so many leaves; else the last checkpoint's")
    ] = None

    @model_validator(mode="after")
    def _one_leaf(self) -> Self:
        if (self.index is None) == (self.journal is None):
            raise PydanticCustomError("one_leaf", "give either index or journal")
        return self


class ConsistencyQuery(Closed):
    first: Annotated[Size, Field(alias="from", description="Leaves of the older tree")]
    second: Annotated[
        Size | None, Field(alias="to", description="Leaves of the newer one; else the last checkpoint's")
    ] = None


def base64_of(hashes: Sequence[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in hashes]


class InclusionProof(View):
    """RFC 9162 §2.1.3: leaf `leaf_index` is in the tree of the first `tree_size` leaves."""

    tree_size: int
    leaf_index: int
    inclusion_path: list[Hash]


class ConsistencyProof(View):
    """RFC 9162 §2.1.4: the tree of `tree_size_1` leaves begins that of `tree_size_2`."""

    tree_size_1: int
    tree_size_2: int
    consistency_path: list[Hash]


class LogKeyEntry(View):
    """`vkey`: the key as C2SP signed notes write it. `endorsement`: a note of the key before it; null: the first."""

    vkey: Annotated[
        str, Field(examples=["khata.local/main+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"])
    ]
    signs_from: Instant
    signs_until: Instant | None
    endorsement: str | None

    @classmethod
    def of(cls, key: LogKey) -> Self:
        return cls.model_construct(
            vkey=key.verifier.vkey,
            signs_from=key.signs_from,
            signs_until=key.signs_until,
            endorsement=key.endorsement,
        )


class LogKeyList(View):
    """Oldest first."""

    origin: Annotated[str, Field(examples=["khata.local/main"])]
    data: list[LogKeyEntry]


class SealedProof(InclusionProof):
    """The journal's leaf is under the root that `checkpoint` states."""

    checkpoint: SignedNote

    @classmethod
    def of(cls, inclusion: Inclusion) -> Self:
        return cls.model_construct(
            tree_size=inclusion.size,
            leaf_index=inclusion.index,
            inclusion_path=base64_of(inclusion.path),
            checkpoint=inclusion.checkpoint,
        )


class Receipt(View):
    """`statement`: signed by the log's key: this journal stands in the book at number `seq` with that `leaf_hash`.

    `inclusion`: once it is sealed, the proof that it does; null: ask again in a few seconds.
    """

    journal: UUID
    book: str
    seq: int
    leaf_hash: Annotated[str, Field(description="SHA-256 of its canonical line (RFC 9162 leaf), in hex")]
    statement: SignedNote
    inclusion: SealedProof | None


class ReceiptList(View):
    """Oldest journal first."""

    data: list[Receipt]
