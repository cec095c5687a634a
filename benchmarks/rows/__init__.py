"""The rows of the table. A module here is a row: `NUMBER`, and `measure(settings) -> list[Measurement]`."""
