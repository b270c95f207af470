"""What a result depends on, as hashes: the code that makes it, the libraries that this uses, settings and bytes.

One mechanism for both caches: DVC's dependencies (the stage `code`) and the keys of the take cache.
"""
