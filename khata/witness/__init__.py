"""A witness of transparency logs (c2sp.org/tlog-witness): it signs a tree only if it has grown from the one before."""
