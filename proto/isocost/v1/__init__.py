"""Generated protobuf messages and gRPC stubs of isocost.v1."""
