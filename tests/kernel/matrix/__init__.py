"""All backends against all circumstances, with the real daemon and real sockets in namespaces."""

import pytest

pytest.register_assert_rewrite("tests.kernel.matrix.call")
