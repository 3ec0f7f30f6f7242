"""Keys and scopes; the transparency log and certificates will live here too."""
