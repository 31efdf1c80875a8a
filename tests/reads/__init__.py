"""What every read of the API and the pages costs on a large book."""
