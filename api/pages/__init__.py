"""Pages for people: the hosted card checkout and the merchant's own pages (docs/pages.md).

Server-rendered, and complete without JavaScript; htmx only spares reloading. Everything they load is ours.
"""
