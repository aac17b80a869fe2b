# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Real S3 servers on loopback for tests and benchmarks."""
