"""A paper preset in small, before its GPU hours: `run` is `make rehearse`, `rows` made-up data (docs/plan.md)."""
