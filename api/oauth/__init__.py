"""OAuth 2.0: the client credentials grant (RFC 6749 §4.4) and the access tokens it gives (RFC 9068)."""
