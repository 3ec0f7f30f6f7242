"""The transparency log: an RFC 6962 Merkle tree over certificates and version states, kept in the database."""
