"""The image store: verified images by digest, their index, rendered trees, and what collects them.

``rkt.store.store.Store`` is the way in; ``archive``, ``compression`` and ``extract`` also serve alone.
"""
