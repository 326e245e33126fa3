"""The type checker that the tests put on every function of the project: beartype, with int accepted as float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
