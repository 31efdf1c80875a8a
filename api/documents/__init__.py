"""Documents for people: files that stand alone, to print or to keep.

One file each, without a script and without anything fetched from elsewhere. What they say is ``ledger.reports``; how a
figure is written is ``api.pages.money``.
"""
