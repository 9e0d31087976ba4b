"""The rpcs: from the wire, one transaction of the domain, to the wire."""
