complete --keep-order --exclusive --command orx --arguments "(COMPLETE=fish orx -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
