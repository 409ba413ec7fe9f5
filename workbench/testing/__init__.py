"""Contract tests shipped with the package: subclass one, name your law or reader, run pytest.

Each contract states what every member of a kind promises. They need pytest (the extra ``test``).
"""
