"""transformers' BLIP: loaded, admitted, stepped layer by layer, and resumed from a layer with states replaced.

Ends: at activations; knows no scores, no answers that are right, no widget.
"""
