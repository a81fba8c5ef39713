"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A problem with the config, the data or the machine, told without a traceback.

    The message names the file, the row or the config key, says what was expected, and how to mend it.
    """
