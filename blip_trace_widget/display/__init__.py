"""From results to what a person sees: words, colours, messages of the front end, SVG, pages and exports.

Ends: at text, bytes and JSON; needs neither torch nor a kernel.
"""
