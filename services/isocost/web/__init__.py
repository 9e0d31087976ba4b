"""The web page of annotators and owners, in front of a budget service.

It has no power of its own: what it shows and stores goes through the same calls as any client's, with the visitor's
token.
"""
