"""The card rail: ISO 8583 (1987) messages over one persistent TCP connection to an acquirer."""
