"""Pages of the documentation that are made from the code: `python -m coinfer.documentation`.

Owns the text of docs/reference/{commands,configuration,formats,metrics,names,wire}.md and of
docs/pictures/system.svg. Each maker gives a page as text; nothing here
writes a file but `__main__`. Tests hold the committed pages against what the makers give.
"""
