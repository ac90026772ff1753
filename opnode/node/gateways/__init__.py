"""Going around a network without UDP, and being the gateway for others."""
