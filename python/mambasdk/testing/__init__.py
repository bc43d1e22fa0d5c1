"""Tests for authors of plugins, to be collected by pytest: evidence for model families, and golden tensors.

    # tests/test_evidence.py of a plugin
    from mambasdk.testing import families

    globals().update(families.suite(families.Evidence("acme")))

pytest is needed, and installed by whoever runs tests: mambasdk itself does not depend on it.
"""

from mambasdk.errors import require_module

require_module("pytest", "mambasdk.testing", "pip install pytest").register_assert_rewrite(
    "mambasdk.testing.causal", "mambasdk.testing.engines", "mambasdk.testing.golden", "mambasdk.testing.properties"
)
