"""The metadata service of the appc specification: an app asks over HTTP who it is.

``server`` has the sockets, ``http`` the protocol and its limits, ``answers`` the paths, ``registry`` what is
known about pods and kept over a restart.
"""
