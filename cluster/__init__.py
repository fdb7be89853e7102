"""The lab: many servers, started, broken and judged from outside."""
