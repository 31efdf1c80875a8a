"""khata serve"""

from __future__ import annotations

import rich_click as click

from khata.bootstrap import open_database
from khata.config import Settings
from khata.logs import configure_logs


@click.command()
def command() -> None:
    """Run the API and the pages until Ctrl-C. Any number may run behind a load balancer.

    Example: `KHATA_API_PORT=8080 khata serve`
    """
    from khata.serve import serve

    settings = Settings()
    configure_logs(settings.log_level)
    with open_database(settings) as (database, _):
        serve(settings, database)
