"""An index on many machines: shards in replicas on Ray Serve, searched as one.

Each version is a Serve application of its own: for each shard a deployment whose replicas hold that
collection open, and routers that ask one replica of every shard and merge what they say. A small
application with the index's name says which version is the current one.
"""
