"""A card acquirer to test against: its own process, its own book in its own files, its own opinion.

It shares the message codec with the rail (``banks.card``) and nothing else: what it books, it decides itself.
"""
