from tests import typecheck as typecheck  # found by the import hook that checks types
