"""`python -m binderhub_ext`: the BinderHub service with this package's launch flow."""

from binderhub_ext.app import main

if __name__ == "__main__":
    main()
