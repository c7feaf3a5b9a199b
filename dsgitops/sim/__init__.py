"""The simulated cluster: an API server, a DaemonSet controller, nodes and kubelets in one process.

It answers HTTP requests, so that everything above the transport is the code that also runs on a
real cluster.  Time in it is virtual; equal seeds give equal histories.
"""
