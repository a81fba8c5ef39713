"""The exceptions for problems that a user can fix."""


class UserError(Exception):
    """A problem with the config, the data or the machine, reported without a traceback.

    The message names the file, the row or the config key, says what was expected, and how to fix it.
    """


class DamagedFileError(UserError, ValueError):
    """A problem with a file whose content isn't what its name says."""
