"""See `apps.automation.services.token`."""
