"""What `streamd doctor` finds out about a machine: one small function a check, all of them rows of `table.CHECKS`.

The checks run in a child process (`examination`), since any of them may hang (a dead network mount) or crash (a
driver). So a module here imports nothing heavy before its check runs: an import that fails is a finding, too.
"""
