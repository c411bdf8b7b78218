"""Results as one HTML page, Markdown tables and pictures; nothing is computed or run here.

`plots` draws, `tables` lays out rows and sentences, `page` is the HTML, `report` is the command.
"""
