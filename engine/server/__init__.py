"""What `flowrun serve` answers: webhooks, the API for runs, health and metrics. A WSGI application (PEP 3333)."""
