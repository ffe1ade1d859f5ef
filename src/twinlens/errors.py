"""One tree of named errors: what was given, what was expected, what to do.

Everything that twinlens raises on purpose is a `TwinlensError`, so that a caller can catch them all
and the command line can print one line instead of a traceback.
"""

from __future__ import annotations


class TwinlensError(Exception):
    """Base of every error that twinlens raises on purpose."""


class InputError(TwinlensError, ValueError):
    """An argument, option or setting has a value that cannot be used."""


class PromptError(InputError):
    """The prompt is empty, too long, or cannot be turned into tokens of this model."""


class SubjectError(InputError):
    """The subject is missing, not in the prompt, or lies after the focus."""


class FocusError(InputError):
    """The focus is not a position of the prompt."""


class AnswerError(InputError):
    """The answer, foil or target is not one token of this model."""


class CorruptionError(InputError):
    """The corruption cannot be applied to this prompt."""


class LensError(InputError):
    """A fitted lens belongs to another model, or a half-fitted one to another fit."""


class SettingsError(InputError):
    """A settings file cannot be read, or holds a name or value that is not a setting."""


class FactsError(InputError):
    """A data set of facts cannot be read, or (in a strict run) has a row that is no fact."""


class OverlapError(InputError):
    """Texts that must be apart share documents; `pairs` says which, and the words."""

    def __init__(self, message: str, pairs: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.pairs = pairs


class SecretError(InputError):
    """The texts or templates make no secret that can be hidden and asked for."""


class EscrowError(InputError):
    """A sealed or opened file is no escrow, or the two do not belong together."""


class ModelError(TwinlensError):
    """Something about the model itself."""


class LoadError(ModelError):
    """The model or its tokenizer cannot be loaded as asked."""


class AnatomyError(ModelError):
    """The parts of the model were not found, or a check of them by numbers failed."""


class ReplayError(ModelError):
    """The blocks cannot be replayed: they take arguments, or keep state, in an unknown way."""


class ChangeError(ModelError):
    """A change does not fit this model, or a changed copy is damaged."""


class ResultError(TwinlensError):
    """Something about a stored result."""


class ResultFileError(ResultError):
    """The file is damaged, incomplete, or no twinlens result."""


class SchemaVersionError(ResultError):
    """The file was written with another version of the result schema."""


class RunFolderError(ResultError):
    """The folder is no run of a sweep, or one that was begun with other settings."""


class OutOfMemoryError(TwinlensError, MemoryError):
    """Memory ran out, on a GPU or on the CPU, where a batch can be no smaller."""


class ClusterError(TwinlensError):
    """The workers of a cluster could not be started, or were lost again and again."""


class MissingExtraError(TwinlensError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
