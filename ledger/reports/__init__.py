"""Reports: what the books say, laid out for a reader outside. Nothing here writes.

An account's statement over days of effect (``statement``) as CSV and camt.053, and the sheets that are pure
functions of balances as of a day and a state of knowledge: balance sheet, income statement, ageing of clearing
accounts. Pages for people (HTML, PDF) are rendered above the ledger, in ``api.documents``.
"""
