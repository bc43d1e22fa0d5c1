"""`python -m mambasdk`: the command line."""

from mambasdk.cli import main

raise SystemExit(main())
