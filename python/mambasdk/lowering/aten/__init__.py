"""Entries of the table (`mambasdk.lowering.table`) for torch's own operations, by kind.

A function is named after the operation that it writes. Modules here are found by themselves.
"""
