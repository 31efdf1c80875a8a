"""Posting in bulk: journals as columns, arrays end to end, never an object for each."""

from ledger.bulk.batches import Batch as Batch
from ledger.bulk.batches import Captures as Captures
from ledger.bulk.batches import Paths as Paths
from ledger.bulk.batches import Places as Places
from ledger.bulk.batches import Transfers as Transfers
from ledger.bulk.ids import RANDOM_BYTES as RANDOM_BYTES
from ledger.bulk.ids import uuid7s as uuid7s
from ledger.bulk.post import Bulk as Bulk
from ledger.bulk.post import BulkResult as BulkResult
