"""Git by GitPython: a bare mirror, one refspec, blobs only; never a checkout.

`command.py` is the only importer of `git`.  This file stays empty of imports: `address.py` and
`revision.py` are needed where no repository is.
"""
