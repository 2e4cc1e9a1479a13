"""From results to what a person sees: words, colours, payloads for the front end, SVG, pages and exports.

For: everything that shows a result.
Ends: at text, bytes and JSON; imports neither torch nor a kernel.
"""
