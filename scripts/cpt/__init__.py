"""The library that the workflow's scripts share: a ground floor and five wings.

The modules beside this file (config, files, digest, provenance, command, progress, errors) are the
ground floor; they import nothing from the wings. The wings are `corpus`, `model`, `train`,
`evaluate` and `report`. A wing never imports another wing: the files on disk are the contract.
"""
