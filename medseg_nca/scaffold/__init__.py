"""Projects of one's own: small folders that use the library and add parts of their own to it.

``templates/common`` holds the files that projects of all tasks share, ``templates/<task>`` what a
task adds or replaces. A task of another package brings its own folder by an entry point of the
group ``medseg_nca.project_templates`` (:mod:`medseg_nca.scaffold.templates_of`).
"""
