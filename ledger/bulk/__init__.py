"""Posting in bulk: transfers as columns, arrays end to end, never an object for each."""

from ledger.bulk.ids import RANDOM_BYTES as RANDOM_BYTES
from ledger.bulk.ids import uuid7s as uuid7s
from ledger.bulk.post import Bulk as Bulk
from ledger.bulk.post import BulkResult as BulkResult
from ledger.bulk.transfers import Paths as Paths
from ledger.bulk.transfers import Transfers as Transfers
