"""Views of a flow and of what its runs did: drawn (Mermaid, SVG, page), and where a value came from.

Pure: they work on the model, the document and the records of the journal, and give text.
"""
