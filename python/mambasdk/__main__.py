"""`python -m mambasdk`: the command line."""

import os
import sys

# `python -m` puts the current folder in front. What lies there is no installed plugin: a plugin's repository, for
# example, has its package without the built library.
_here = os.getcwd()
_own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if sys.path and not getattr(sys.flags, "safe_path", False) and os.path.realpath(sys.path[0] or ".") == _here != _own:
    del sys.path[0]

from mambasdk.command_line import main  # noqa: E402

raise SystemExit(main())
