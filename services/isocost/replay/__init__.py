"""Policies judged on accuracy surfaces that are known already: what would each have bought, and what reached?"""
