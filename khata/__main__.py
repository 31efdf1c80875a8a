"""``python -m khata`` is the ``khata`` command."""

from khata.cli import main

main()
