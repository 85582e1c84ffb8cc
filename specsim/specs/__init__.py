"""What exists: models, hardware, deployments, engine limits."""
