"""Money, identifiers, errors and the gRPC server: what every service needs and none of them owns."""

import os

# Before gRPC is imported. Its handlers of fork() can abort a process that was forked to become another program, as Ray
# starts its own, while calls are under way; none of our processes goes on as a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
