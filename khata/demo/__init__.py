"""The story ``khata demo`` tells: three merchants, a bank that misbehaves, and books that come out right."""
