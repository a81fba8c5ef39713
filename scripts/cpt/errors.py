"""The exceptions for what a user can fix."""


class UserError(Exception):
    """A problem with the config, the data or the machine, reported without a traceback.

    The message names the file, the row or the config key, says what was expected, and how to fix it.
    """


class DamagedFileError(UserError, ValueError):
    """A file's content is not what its name promises."""
