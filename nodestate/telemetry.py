"""structlog set-up and the metrics registry."""
