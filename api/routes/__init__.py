"""The routes of the API, one module an object; each ends with its ``routes``."""
