"""OpenDSR 2.0 (https://github.com/opengdpr/OpenDSR): a façade over forget requests, off unless settings name a domain."""
