"""Simulated banks: separate processes on real sockets, with their own books."""
