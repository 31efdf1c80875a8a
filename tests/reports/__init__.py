"""Tests of reports: what they say is read back by programs that know nothing of Khata."""
