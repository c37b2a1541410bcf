"""Everything on one machine: a real Hub, a real proxy, this service, builds and servers as processes.

Started by ``python -m binderhub_ext.local``. Who starts whom::

    supervisor                 cli.py, supervisor.py: the only process that prints
      guard                    guard.py: ends the others when the supervisor is killed
      JupyterHub               hub.py, jupyterhub_config.py
        proxy                  npm's configurable-http-proxy, found by proxy.py
        BinderHub service      service.py, binderhub_config.py
          git, uv              build.py: make an image, which is a directory here (images.py)
        idle culler
        Jupyter servers        spawner.py: one private copy of an image's repository each
          kernels              run the Python of the image

Every process below the supervisor carries the run's id in its environment (processes.py), so
that all of them are found at the end, whatever became of the processes in between.

Nothing is isolated: what is launched runs with the rights of whoever started this.
"""
