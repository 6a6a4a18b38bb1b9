"""The server below the app: connections with deadlines and caps, on uvicorn."""
