"""`python -m binderhub_ext.local`: BinderHub on this machine, with nothing but processes."""

import sys

from binderhub_ext.local.cli import main

if __name__ == "__main__":
    sys.exit(main())
