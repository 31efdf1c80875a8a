"""What the API reads and writes, as pydantic models: strict, closed, in the field's words."""
