"""transformers' BLIP: loaded, admitted, stepped layer by layer, and resumed from a layer with states replaced.

For: everything that runs the model.
Ends: at activations and logits; no scores, no expected answers, no widget.
"""
