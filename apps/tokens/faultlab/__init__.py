"""The fault lab: login sites that misbehave on request, and count what is done to them.

It observes the product from outside. Nothing here may import the product's models or services:
what it counts would then be what the product believes.
"""
