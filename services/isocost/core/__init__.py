"""Money, identifiers, errors and the gRPC server: what every service needs and none of them owns."""
