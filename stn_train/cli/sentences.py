"""Sentences for the terminal: one line each, whatever the names in them are made of."""

_LONGEST, _END = 1500, 500


def in_one_line(sentence: str) -> str:
    """A sentence with the characters that would break its line escaped, and with a middle that is too long left out."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - _END]} ... {shown[-_END:]}"
